/* SPDX-License-Identifier: MIT */
#include "daemon/egress/egress_watch.h"

#include <errno.h>
#include <net/if.h>
#include <unistd.h>

#include "daemon/core/log.h"
#include "daemon/egress/dnsbl.h"
#include "daemon/net/sock.h"

#define LOOK_MS 5000
/* While something is missing. */
#define LOOK_AGAIN_MS 1000

struct egress_watch {
	struct loop *loop;
	struct egress *egress;
	struct dnsbl *dnsbl; /* or NULL */
	struct timer timer;
	bool no_iface; /* and that was said */
};

/* Nothing is sent by that. Any address of a prefix can be bound to. Whether it is as it should be. */
static bool watch_address(struct egress_addr *a)
{
	const struct sock_options none = {0};
	struct addr addr;
	int fd, rc;

	if (!egress_is_address(&a->prefix))
		return true;
	addr = egress_address(&a->prefix, &(struct addr){.family = a->prefix.family});
	fd = sock_stream(addr.family, &none);
	rc = fd < 0 ? fd : sock_bind_source(fd, &addr);
	if (fd >= 0)
		close(fd);
	if (!sock_is_shortage(-rc)) /* which says nothing of the address */
		egress_tell(a, -rc);
	return rc == 0;
}

static bool watch_iface(struct egress_watch *w)
{
	const char *name = w->egress->conf->egress.iface;
	bool missing = name[0] != '\0' && if_nametoindex(name) == 0;
	struct log_line line;

	if (missing == w->no_iface)
		return !missing;
	w->no_iface = missing;
	if (!log_begin(&line, missing ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
		       missing ? "there is no interface of that name, and nothing goes out without"
			       : "the interface is there again"))
		return !missing;
	log_add(&line, "iface", name);
	log_end(&line);
	return !missing;
}

static void watch_look(struct timer *t)
{
	struct egress_watch *w = container_of(t, struct egress_watch, timer);

	bool well = watch_iface(w);

	for (size_t i = 0; i < w->egress->n; i++)
		well &= watch_address(w->egress->items[i]);
	loop_timer(w->loop, &w->timer, well ? LOOK_MS : LOOK_AGAIN_MS, watch_look);
}

int egress_watch_new(struct loop *loop, struct egress *e, struct egress_watch **out, struct diag *d)
{
	struct egress_watch *w;
	int rc;

	*out = NULL;
	if (e->n == 0 && e->conf->egress.iface[0] == '\0')
		return 0;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	rc = dnsbl_new(loop, e, &w->dnsbl, d);
	if (rc < 0) {
		free(w);
		return rc;
	}
	w->loop = loop;
	w->egress = egress_ref(e);
	timer_init(&w->timer);
	watch_look(&w->timer);
	*out = w;
	return 0;
}

void egress_watch_free(struct egress_watch *w)
{
	if (w == NULL)
		return;
	dnsbl_free(w->dnsbl);
	timer_cancel(&w->timer);
	egress_unref(w->egress);
	free(w);
}
