/* SPDX-License-Identifier: MIT */
#include "rulemgr/transparent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* Those in which the other side may still wait for something. */
#define TRANSPARENT_STATES                                                                    \
	(1 << TCP_ESTABLISHED | 1 << TCP_SYN_RECV | 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | \
	 1 << TCP_CLOSE_WAIT | 1 << TCP_LAST_ACK | 1 << TCP_CLOSING)

struct dump {
	struct own_addresses own;
	struct flows *flows;
};

static struct addr diag_address(const struct inet_diag_msg *m, const __be32 *ip, __be16 port)
{
	return addr_from_bytes((const uint8_t *)ip, m->idiag_family == AF_INET ? 4 : 16,
			       ntohs(port));
}

static int read_socket(const struct nlmsghdr *h, void *ctx)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
	struct dump *dump = ctx;
	struct flow flow;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
		return MNL_CB_OK;
	/* Closed by its program, and by the other side all but. */
	if (m->idiag_state == TCP_FIN_WAIT2 && m->idiag_inode == 0)
		return MNL_CB_OK;
	flow.dest = diag_address(m, m->id.idiag_src, m->id.idiag_sport);
	flow.client = diag_address(m, m->id.idiag_dst, m->id.idiag_dport);
	if (!own_addresses_have(&dump->own, &flow.dest))
		flows_add(dump->flows, &flow);
	return MNL_CB_OK;
}

static int dump_family(struct mnl_socket *sock, uint8_t family, struct dump *dump)
{
	char buf[32 * 1024]; /* the kernel sends no larger piece of a list */
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *request;
	ssize_t n;
	int r;

	h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	h->nlmsg_seq = family;
	request = mnl_nlmsg_put_extra_header(h, sizeof(*request));
	request->sdiag_family = family;
	request->sdiag_protocol = IPPROTO_TCP;
	request->idiag_states = TRANSPARENT_STATES;
	if (mnl_socket_sendto(sock, h, h->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(sock, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, family, mnl_socket_get_portid(sock), read_socket,
			       dump);
	} while (r > MNL_CB_STOP);
	return r == MNL_CB_STOP ? 0 : -errno;
}

static int dump_all(struct dump *dump)
{
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	int r;

	if (sock == NULL)
		return -errno;
	if (mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0)
		r = -errno;
	else
		r = dump_family(sock, AF_INET, dump);
	if (r == 0)
		r = dump_family(sock, AF_INET6, dump);
	mnl_socket_close(sock);
	return r;
}

int transparent_read(struct flows *f, struct diag *d)
{
	struct dump dump = {.flows = f};
	int r = own_addresses_read(&dump.own);

	if (r == 0)
		r = dump_all(&dump);
	own_addresses_free(&dump.own);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot list the sockets of this host: %s",
				strerror(-r));
	return 0;
}
