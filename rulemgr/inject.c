/* SPDX-License-Identifier: MIT */
#include "rulemgr/inject.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

/* What the kernel says of an interface; it cuts nothing. */
#define LINK_MAX 32768

#define TUN_FILE "/dev/net/tun"
/* The ports above those that Linux gives to clients by itself. */
#define INJECT_PORT_FIRST 61000

struct packet {
	uint8_t bytes[sizeof(struct ip6_hdr) + sizeof(struct tcphdr) + 4];
	size_t len;
};

static int tc_ask(struct mnl_socket *sock, struct nlmsghdr *h)
{
	char answer[4096];
	ssize_t n;

	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	h->nlmsg_seq = 1;
	if (mnl_socket_sendto(sock, h, h->nlmsg_len) < 0)
		return -errno;
	n = mnl_socket_recvfrom(sock, answer, sizeof(answer));
	if (n < 0 || mnl_cb_run(answer, (size_t)n, 1, mnl_socket_get_portid(sock), NULL, NULL) < 0)
		return -errno;
	return 0;
}

static struct tcmsg *tc_message(struct nlmsghdr *h, uint16_t type, unsigned device)
{
	struct tcmsg *t;

	h->nlmsg_type = type;
	t = mnl_nlmsg_put_extra_header(h, sizeof(*t));
	t->tcm_ifindex = (int)device;
	return t;
}

static int tc_add_clsact(struct mnl_socket *sock, unsigned device)
{
	char buf[512] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct tcmsg *t = tc_message(h, RTM_NEWQDISC, device);

	t->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	t->tcm_parent = TC_H_CLSACT;
	mnl_attr_put_strz(h, TCA_KIND, "clsact");
	return tc_ask(sock, h);
}

/* One action: go on as if received by the interface `to`. */
static void tc_put_redirect(struct nlmsghdr *h, uint16_t attribute, unsigned to)
{
	struct tc_mirred mirred = {
		.action = TC_ACT_STOLEN, .eaction = TCA_INGRESS_REDIR, .ifindex = to};
	struct nlattr *actions = mnl_attr_nest_start(h, attribute);
	struct nlattr *first = mnl_attr_nest_start(h, 1);
	struct nlattr *options;

	mnl_attr_put_strz(h, TCA_ACT_KIND, "mirred");
	options = mnl_attr_nest_start(h, TCA_ACT_OPTIONS);
	mnl_attr_put(h, TCA_MIRRED_PARMS, sizeof(mirred), &mirred);
	mnl_attr_nest_end(h, options);
	mnl_attr_nest_end(h, first);
	mnl_attr_nest_end(h, actions);
}

/* A filter for every packet, of kind u32 or matchall: a kernel may lack either. */
static int tc_add_filter(struct mnl_socket *sock, unsigned device, unsigned to, bool u32)
{
	const struct tc_u32_sel head = {.flags = TC_U32_TERMINAL, .nkeys = 1};
	uint8_t all[sizeof(head) + sizeof(struct tc_u32_key)] = {0}; /* no bit of its key counts */
	char buf[512] = {0};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct tcmsg *t = tc_message(h, RTM_NEWTFILTER, device);
	struct nlattr *options;

	t->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	t->tcm_info = TC_H_MAKE(1u << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(h, TCA_KIND, u32 ? "u32" : "matchall");
	options = mnl_attr_nest_start(h, TCA_OPTIONS);
	memcpy(all, &head, sizeof(head));
	if (u32)
		mnl_attr_put(h, TCA_U32_SEL, sizeof(all), all);
	tc_put_redirect(h, u32 ? TCA_U32_ACT : TCA_MATCHALL_ACT, to);
	mnl_attr_nest_end(h, options);
	return tc_ask(sock, h);
}

static int tc_redirect(unsigned device, unsigned to)
{
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	int r = 0;

	if (sock == NULL || mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) < 0)
		r = -errno;
	if (r == 0)
		r = tc_add_clsact(sock, device);
	if (r == 0) {
		r = tc_add_filter(sock, device, to, true);
		if (r == -ENOENT)
			r = tc_add_filter(sock, device, to, false);
	}
	if (sock != NULL)
		mnl_socket_close(sock);
	/* Names of modules are all that can be missing here. */
	return r == -ENOENT ? -EOPNOTSUPP : r;
}

static int set_up(struct ifreq *ifr)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = 0;

	if (sock < 0)
		return -errno;
	ifr->ifr_flags = IFF_UP | IFF_NOARP;
	if (ioctl(sock, SIOCSIFFLAGS, ifr) < 0)
		r = -errno;
	close(sock);
	return r;
}

static int tun_open(struct probe *p)
{
	struct ifreq ifr = {.ifr_name = "transocks%d"};
	int r;

	ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
	p->fd = open(TUN_FILE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (p->fd < 0)
		return -errno;
	if (ioctl(p->fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	r = tc_redirect(if_nametoindex(ifr.ifr_name), p->in_index);
	return r == 0 ? set_up(&ifr) : r;
}

struct link {
	uint32_t master; /* 0: none */
	bool is_bridge_port;
};

static int read_link(const struct nlmsghdr *h, void *ctx)
{
	struct link *link = ctx;
	const struct nlattr *a, *info;

	mnl_attr_for_each(a, h, sizeof(struct ifinfomsg))
	{
		if (mnl_attr_get_type(a) == IFLA_MASTER)
			link->master = mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) != IFLA_LINKINFO)
			continue;
		mnl_attr_for_each_nested(info, a)
		{
			if (mnl_attr_get_type(info) == IFLA_INFO_SLAVE_KIND)
				link->is_bridge_port =
					strcmp(mnl_attr_get_str(info), "bridge") == 0;
		}
	}
	return MNL_CB_STOP;
}

static int link_look(unsigned index, struct link *link)
{
	char buf[LINK_MAX] __attribute__((aligned(NLMSG_ALIGNTO))) = {0};
	struct mnl_socket *sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(h, sizeof(*info));
	ssize_t n = -1;
	int r;

	h->nlmsg_type = RTM_GETLINK;
	h->nlmsg_flags = NLM_F_REQUEST;
	info->ifi_index = (int)index;
	if (sock != NULL && mnl_socket_bind(sock, 0, MNL_SOCKET_AUTOPID) == 0 &&
	    mnl_socket_sendto(sock, h, h->nlmsg_len) >= 0)
		n = mnl_socket_recvfrom(sock, buf, sizeof(buf));
	if (n >= 0)
		n = mnl_cb_run(buf, (size_t)n, 0, 0, read_link, link);
	r = n < 0 ? -errno : 0;
	if (sock != NULL)
		mnl_socket_close(sock);
	return r;
}

/* A bridge would take the bytes where an Ethernet header stands for addresses, and learn them. */
static int check_port(const struct probe *p, struct diag *d)
{
	struct link link = {.master = 0};
	char bridge[IF_NAMESIZE] = "a bridge";
	int r = link_look(p->in_index, &link);

	if (r < 0)
		return diag_set(d, -r, NULL, 0, "--in %s: cannot look at the interface: %s", p->in,
				strerror(-r));
	if (!link.is_bridge_port)
		return 0;
	if_indextoname(link.master, bridge);
	return diag_set(d, EINVAL, NULL, 0,
			"--in %s: it is a port of %s, and what comes in there comes in from %s for "
			"the rules: give that",
			p->in, bridge, bridge);
}

int inject_open(struct probe *p, struct diag *d)
{
	uint16_t random = 0;
	int r;

	p->in_index = if_nametoindex(p->in);
	if (p->in_index == 0)
		return diag_set(d, ENODEV, NULL, 0, "--in %s: no such interface", p->in);
	r = check_port(p, d);
	if (r < 0)
		return r;
	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (uint16_t)getpid();
	p->from.port = (uint16_t)(INJECT_PORT_FIRST + random % (UINT16_MAX - INJECT_PORT_FIRST));
	r = tun_open(p);
	if (r == 0)
		return 0;
	probe_close(p);
	if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
		r = -EOPNOTSUPP;
	return diag_set(d, -r, NULL, 0,
			"cannot make a way into %s, which takes " TUN_FILE
			" and the traffic control action mirred: %s",
			p->in, strerror(-r));
}

/* The Internet checksum (RFC 1071) of `n` bytes, an even number, on top of `sum`; network order. */
static uint16_t checksum(const uint8_t *bytes, size_t n, uint32_t sum)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static size_t put_ipv4(const struct probe *p, uint8_t *at, size_t payload_len)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = htons((uint16_t)(sizeof(ip) + payload_len)),
		.frag_off = htons(IP_DF),
		.ttl = IPDEFTTL,
		.protocol = IPPROTO_TCP,
	};

	memcpy(&ip.saddr, p->from.ip, sizeof(ip.saddr));
	memcpy(&ip.daddr, p->to.ip, sizeof(ip.daddr));
	memcpy(at, &ip, sizeof(ip));
	ip.check = checksum(at, sizeof(ip), 0);
	memcpy(at, &ip, sizeof(ip));
	return sizeof(ip);
}

static size_t put_ipv6(const struct probe *p, uint8_t *at, size_t payload_len)
{
	struct ip6_hdr ip = {
		.ip6_flow = htonl(6u << 28),
		.ip6_plen = htons((uint16_t)payload_len),
		.ip6_nxt = IPPROTO_TCP,
		.ip6_hlim = IPDEFTTL,
	};

	memcpy(&ip.ip6_src, p->from.ip, sizeof(ip.ip6_src));
	memcpy(&ip.ip6_dst, p->to.ip, sizeof(ip.ip6_dst));
	memcpy(at, &ip, sizeof(ip));
	return sizeof(ip);
}

/* A SYN as hosts send it; conntrack drops what has a wrong checksum. */
static void packet_build(const struct probe *p, struct packet *out)
{
	static const uint8_t mss[4] = {TCPOPT_MAXSEG, TCPOLEN_MAXSEG, 1220 >> 8, 1220 & 0xff};
	size_t n = sizeof(struct tcphdr) + sizeof(mss), addresses = 2 * addr_len(&p->to);
	size_t head =
		p->to.family == AF_INET ? put_ipv4(p, out->bytes, n) : put_ipv6(p, out->bytes, n);
	struct tcphdr tcp = {
		.th_sport = htons(p->from.port),
		.th_dport = htons(p->to.port),
		.th_seq = htonl(p->sequence),
		.th_off = (uint8_t)(n / 4) & 0xf,
		.th_flags = TH_SYN,
		.th_win = htons(64240),
	};

	memcpy(out->bytes + head, &tcp, sizeof(tcp));
	memcpy(out->bytes + head + sizeof(tcp), mss, sizeof(mss));
	/* Both headers end in the two addresses, so they stand right before the segment. */
	tcp.th_sum =
		checksum(out->bytes + head - addresses, addresses + n, IPPROTO_TCP + (uint32_t)n);
	memcpy(out->bytes + head, &tcp, sizeof(tcp));
	out->len = head + n;
}

int inject_send(struct probe *p)
{
	struct packet packet;

	packet_build(p, &packet);
	return write(p->fd, packet.bytes, packet.len) < 0 ? -errno : 0;
}
