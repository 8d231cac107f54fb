/* SPDX-License-Identifier: MIT */
#include "daemon/flow/outgoing.h"

#include <errno.h>
#include <unistd.h>

static int outgoing_bind(struct dial *d, int fd, size_t place)
{
	return egress_bind(&container_of(d, struct setup, dial)->egress, place, fd);
}

struct sock_options outgoing_options(struct session *s)
{
	const struct egress *e = s->view->plan->egress;
	struct sock_options o = s->view->sock;
	struct setup *p = s->setup;

	if (e == NULL)
		return o;
	egress_choose(e, &s->client_addr, socks_server_login(&p->server), &p->egress);
	p->dial.bind = outgoing_bind;
	o.source = &p->egress.list;
	return o;
}

int outgoing_bind_own(struct session *s, int fd, int family, int *source)
{
	struct sock_options o = outgoing_options(s);
	size_t n = sock_sources(&o, family);
	int rc = -EAFNOSUPPORT;

	*source = -1;
	if (o.source == NULL || o.source->n == 0)
		return 0;
	for (size_t nth = 0; nth < n; nth++) {
		size_t place = sock_source(&o, family, nth);

		rc = egress_bind(&s->setup->egress, place, fd);
		if (rc == 0)
			*source = (int)place;
		if (rc != -EADDRNOTAVAIL)
			break;
	}
	return rc;
}

/* As outgoing_bind_own(). */
static int datagram_bind(const struct egress_choice *choice, int fd, int family,
			 struct egress_addr **from)
{
	int rc = -EAFNOSUPPORT;

	*from = NULL;
	if (choice->list.n == 0)
		return 0;
	for (size_t i = 0; i < choice->list.n; i++) {
		if (choice->addrs[i].family != family)
			continue;
		rc = egress_bind(choice, i, fd);
		if (rc == 0)
			*from = choice->items[i];
		if (rc != -EADDRNOTAVAIL)
			break;
	}
	return rc;
}

int outgoing_datagram(const struct session *s, int family, const struct egress_choice *choice,
		      struct egress_addr **from)
{
	const struct sock_options *o = &s->view->sock;
	int fd = sock_datagram(family, o), rc = 0;

	if (fd < 0)
		return fd;
	if (o->iface != NULL && o->iface[0] != '\0')
		rc = sock_bind_iface(fd, o->iface);
	if (rc == 0)
		rc = datagram_bind(choice, fd, family, from);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

void outgoing_take(struct session *s, int source)
{
	if (s->view->plan->egress == NULL)
		return;
	s->src_addr = sock_local(s->remote.source->fd);
	if (source < 0)
		return;
	s->from = s->setup->egress.items[source];
	egress_take(s->from);
}

void outgoing_failed(struct session *s, int source)
{
	if (s->view->plan->egress != NULL && source >= 0)
		egress_failed(s->setup->egress.items[source]);
}

void outgoing_leave(struct session *s)
{
	if (s->from == NULL)
		return;
	egress_moved(s->from, s->client.nbytes, s->remote.nbytes);
	egress_put(s->from);
	s->from = NULL;
}

const char *outgoing_trouble(const struct session *s, int status)
{
	if (s->view->plan->egress == NULL || s->setup->egress.list.n == 0)
		return NULL;
	if (status == -EADDRNOTAVAIL)
		return "no address of the client's in outgoing.addresses is one of this host, or "
		       "has a port left towards the destination";
	if (status == -EAFNOSUPPORT)
		return "the client's own addresses have none of the destination's family";
	return NULL;
}
