/* SPDX-License-Identifier: MIT */
#include "rulemgr/encap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/lwtunnel.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <time.h>

#define ANSWER_MAX 8192

/* "ip" and "ip6" only tell a tunnel's interface where to, behind all hooks; so does "xfrm". */
static bool wraps_early(uint16_t type)
{
	return type != LWTUNNEL_ENCAP_NONE && type != LWTUNNEL_ENCAP_IP &&
	       type != LWTUNNEL_ENCAP_IP6 && type != LWTUNNEL_ENCAP_XFRM;
}

static void put_question(struct nlmsghdr *h, const struct probe *p)
{
	struct rtmsg *route = mnl_nlmsg_put_extra_header(h, sizeof(*route));
	uint8_t bits = (uint8_t)(8 * addr_len(&p->to));

	h->nlmsg_type = RTM_GETROUTE;
	h->nlmsg_flags = NLM_F_REQUEST;
	h->nlmsg_seq = (uint32_t)time(NULL);
	route->rtm_family = (uint8_t)p->to.family;
	route->rtm_dst_len = bits;
	mnl_attr_put(h, RTA_DST, addr_len(&p->to), p->to.ip);
	mnl_attr_put_u8(h, RTA_IP_PROTO, IPPROTO_TCP);
	mnl_attr_put_u16(h, RTA_SPORT, htons(p->from.port));
	mnl_attr_put_u16(h, RTA_DPORT, htons(p->to.port));
	if (probe_is_forwarded(p)) {
		route->rtm_src_len = bits;
		mnl_attr_put(h, RTA_SRC, addr_len(&p->from), p->from.ip);
		mnl_attr_put_u32(h, RTA_IIF, p->in_index);
		return;
	}
	mnl_attr_put_u32(h, RTA_UID, p->uid);
	mnl_attr_put_u32(h, RTA_MARK, p->mark);
}

static int read_route(const struct nlmsghdr *h, void *ctx)
{
	uint16_t *type = ctx;
	const struct nlattr *a;

	if (h->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(h) < sizeof(struct rtmsg))
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(struct rtmsg))
	{
		if (mnl_attr_get_type(a) == RTA_ENCAP_TYPE &&
		    mnl_attr_validate(a, MNL_TYPE_U16) >= 0)
			*type = mnl_attr_get_u16(a);
	}
	return MNL_CB_STOP;
}

/* 0 with *type; what has no route goes nowhere. */
static int ask(struct mnl_socket *sock, const struct probe *p, uint16_t *type)
{
	char buf[ANSWER_MAX] __attribute__((aligned(NLMSG_ALIGNTO))) = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	uint32_t seq;
	ssize_t n;

	put_question(h, p);
	seq = h->nlmsg_seq;
	if (mnl_socket_sendto(sock, h, h->nlmsg_len) < 0)
		return -errno;
	n = mnl_socket_recvfrom(sock, buf, sizeof(buf));
	if (n < 0)
		return -errno;
	mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(sock), read_route, type);
	return 0;
}

int encap_check(const struct probe *p, struct diag *d)
{
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	uint16_t type = LWTUNNEL_ENCAP_NONE;
	char to[ADDR_TEXT_MAX];
	int r;

	if (sock == NULL || mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0)
		r = -errno;
	else
		r = ask(sock, p, &type);
	if (sock != NULL)
		mnl_socket_close(sock);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot ask the kernel's routing: %s",
				strerror(-r));
	if (!wraps_early(type))
		return 0;
	return diag_set(d, EPROTO, NULL, 0,
			"the probe could leave this host: its route wraps it into another packet "
			"(`ip route get %s` shows encap)",
			addr_format_ip(&p->to, to, sizeof(to)));
}
