/* SPDX-License-Identifier: MIT */
#include "rulemgr/trace.h"

#include <errno.h>
#include <libnftnl/trace.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "rulemgr/conntrack.h"

/* A gateway of many thousand rules says much about one packet, and nobody reads meanwhile. */
#define TRACE_RECEIVE_BYTES (8 << 20)

/* The kernel has said all before probe_send() returns, save where a packet waits for another CPU or
 * where the probe ends unseen. */
#define TRACE_WAIT_MS 500

int trace_open(struct trace *t, struct diag *d)
{
	int group = NFNLGRP_NFTRACE, bytes = TRACE_RECEIVE_BYTES, fd, r;

	*t = (struct trace){
		.sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC | SOCK_NONBLOCK)};
	if (t->sock == NULL)
		return diag_set(d, errno, NULL, 0, "cannot open a netlink socket: %s",
				strerror(errno));
	fd = mnl_socket_get_fd(t->sock);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	if (mnl_socket_bind(t->sock, 0, MNL_SOCKET_AUTOPID) == 0 &&
	    mnl_socket_setsockopt(t->sock, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) == 0)
		return 0;
	r = errno;
	trace_close(t);
	return diag_set(d, r, NULL, 0, "cannot listen for traces: %s", strerror(r));
}

void trace_close(struct trace *t)
{
	if (t->sock != NULL)
		mnl_socket_close(t->sock);
	free(t->steps);
	*t = (struct trace){0};
}

/* The addresses of the packet as it is at this chain. */
static bool read_addresses(const struct nftnl_trace *n, struct addr *from, struct addr *to)
{
	uint32_t network_len = 0, transport_len = 0;
	const uint8_t *network = nftnl_trace_get_data(n, NFTNL_TRACE_NETWORK_HEADER, &network_len);
	const uint8_t *transport =
		nftnl_trace_get_data(n, NFTNL_TRACE_TRANSPORT_HEADER, &transport_len);
	size_t at, len;

	if (network == NULL || transport == NULL || network_len == 0 || transport_len < 4)
		return false;
	if (network[0] >> 4 == 4) {
		at = offsetof(struct iphdr, saddr);
		len = 4;
	} else {
		at = offsetof(struct ip6_hdr, ip6_src);
		len = 16;
	}
	if (network_len < at + 2 * len)
		return false;
	*from = addr_from_bytes(network + at, len, (uint16_t)(transport[0] << 8 | transport[1]));
	*to = addr_from_bytes(network + at + len, len,
			      (uint16_t)(transport[2] << 8 | transport[3]));
	return true;
}

static const char *string_of(const struct nftnl_trace *n, uint16_t attribute)
{
	const char *s = nftnl_trace_is_set(n, attribute) ? nftnl_trace_get_str(n, attribute) : NULL;

	return s != NULL ? s : "";
}

static bool step_read(struct step *s, const struct nftnl_trace *n)
{
	*s = (struct step){.family = (uint8_t)nftnl_trace_get_u32(n, NFTNL_TRACE_FAMILY)};
	switch (nftnl_trace_get_u32(n, NFTNL_TRACE_TYPE)) {
	case NFT_TRACETYPE_RULE:
	case NFT_TRACETYPE_RETURN:
		/* Without a handle it is no rule, but the end of the chain; kernels differ in which type
		 * they give to a rule that returns. */
		s->handle = nftnl_trace_get_u64(n, NFTNL_TRACE_RULE_HANDLE);
		s->kind = s->handle != 0 ? STEP_RULE : STEP_RETURN;
		s->verdict = s->handle != 0 ? (int32_t)nftnl_trace_get_u32(n, NFTNL_TRACE_VERDICT)
					    : NFT_RETURN;
		break;
	case NFT_TRACETYPE_POLICY:
		s->kind = STEP_POLICY;
		s->verdict = (int32_t)nftnl_trace_get_u32(n, NFTNL_TRACE_POLICY);
		break;
	default:
		return false;
	}
	snprintf(s->table, sizeof(s->table), "%s", string_of(n, NFTNL_TRACE_TABLE));
	snprintf(s->chain, sizeof(s->chain), "%s", string_of(n, NFTNL_TRACE_CHAIN));
	s->has_addresses = read_addresses(n, &s->from, &s->to);
	return true;
}

/* At the end of a chain at a hook there are two steps, of which the policy says all. */
static bool step_merge(struct trace *t, const struct step *s)
{
	struct step *last = t->n_steps > 0 ? &t->steps[t->n_steps - 1] : NULL;

	if (last == NULL || last->kind != STEP_RETURN || s->kind != STEP_POLICY ||
	    last->family != s->family || strcmp(last->table, s->table) != 0 ||
	    strcmp(last->chain, s->chain) != 0)
		return false;
	last->kind = STEP_POLICY;
	last->verdict = s->verdict;
	return true;
}

static int step_append(struct trace *t, const struct step *s)
{
	struct step *larger;

	if (step_merge(t, s))
		return 0;

	if (t->n_steps == TRACE_STEPS_MAX) {
		t->n_lost++;
		return 0;
	}
	if (t->n_steps == t->cap_steps) {
		size_t cap = t->cap_steps > 0 ? 2 * t->cap_steps : 32;

		larger = reallocarray(t->steps, cap, sizeof(*larger));
		if (larger == NULL)
			return -ENOMEM;
		t->steps = larger;
		t->cap_steps = cap;
	}
	t->steps[t->n_steps++] = *s;
	return 0;
}

/* Others may trace packets of theirs at the same time, which then pass through the cage as well. But only
 * the probe matches the rules there that begin its trace: the number of its packet comes with them, and
 * a new one where it comes in again by the loopback interface. */
static int trace_add(struct trace *t, const struct nftnl_trace *n)
{
	uint32_t id = nftnl_trace_get_u32(n, NFTNL_TRACE_ID);
	struct step s;
	bool in_cage, tracked;

	if (!step_read(&s, n))
		return 0;
	in_cage = s.family == NFPROTO_INET && strcmp(s.table, t->cage->table) == 0;
	/* Copies that others make come by there as well. */
	tracked = in_cage && strcmp(s.chain, CAGE_TRACKED_CHAIN) == 0;
	if (in_cage && !tracked && s.kind == STEP_RULE && s.verdict == NFT_CONTINUE) {
		t->gap |= strcmp(s.chain, CAGE_LOCAL_CHAIN) == 0 && !t->passed;
		t->has_id = true;
		t->id = id;
	}
	if (!t->has_id || id != t->id || t->caught)
		return 0;
	if (!in_cage)
		return step_append(t, &s);
	if (s.has_addresses) {
		if (tracked)
			t->tracked = (struct flow){.client = s.from, .dest = s.to};
		t->last_from = s.from;
		t->last_to = s.to;
	}
	t->passed |= s.kind == STEP_RULE && s.verdict == NF_ACCEPT;
	/* What nobody saw on its way says nothing about the way. */
	t->caught = s.kind == STEP_RULE && s.verdict == NF_DROP && !t->gap;
	return 0;
}

static int read_message(const struct nlmsghdr *h, void *ctx)
{
	struct nftnl_trace *n;
	int r = 0;

	if (NFNL_SUBSYS_ID(h->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
	    NFNL_MSG_TYPE(h->nlmsg_type) != NFT_MSG_TRACE)
		return MNL_CB_OK;
	n = nftnl_trace_alloc();
	if (n == NULL)
		r = -ENOMEM;
	else if (nftnl_trace_nlmsg_parse(h, n) == 0)
		r = trace_add(ctx, n);
	if (n != NULL)
		nftnl_trace_free(n);
	errno = -r;
	return r == 0 ? MNL_CB_OK : MNL_CB_ERROR;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int trace_receive(struct trace *t)
{
	char buf[16 * 1024]; /* the kernel sends at most a page at once here */
	ssize_t n = recv(mnl_socket_get_fd(t->sock), buf, sizeof(buf), 0);

	if (n < 0 && errno == ENOBUFS) {
		t->n_lost++;
		return 1;
	}
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return mnl_cb_run(buf, (size_t)n, 0, 0, read_message, t) < 0 ? -errno : 1;
}

static bool trace_has_ended(const struct trace *t)
{
	return t->caught || (t->n_steps > 0 && step_is_end(&t->steps[t->n_steps - 1]));
}

int trace_collect(struct trace *t, const struct cage *cage, int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	struct pollfd p = {.fd = mnl_socket_get_fd(t->sock), .events = POLLIN};
	int r;

	t->cage = cage;
	for (;;) {
		do {
			r = trace_receive(t);
		} while (r > 0 || r == -EINTR);
		if (r < 0 || trace_has_ended(t))
			return r;
		timeout_ms = (int)(end - now_ms());
		if (timeout_ms <= 0)
			return 0;
		if (poll(&p, 1, timeout_ms) < 0 && errno != EINTR)
			return -errno;
	}
}

bool step_is_end(const struct step *s)
{
	return s->kind != STEP_RETURN && s->verdict == NF_DROP;
}

bool step_is_ours(const struct step *s)
{
	return s->family == NFPROTO_INET && strcmp(s->table, MODEL_TABLE) == 0;
}

const char *step_family_name(uint8_t family)
{
	switch (family) {
	case NFPROTO_INET:
		return "inet";
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	case NFPROTO_ARP:
		return "arp";
	case NFPROTO_BRIDGE:
		return "bridge";
	case NFPROTO_NETDEV:
		return "netdev";
	default:
		return "?";
	}
}

/* Takes the probe's entry out of connection tracking. */
static void trace_forget(const struct trace *t, const struct probe *p)
{
	struct flow f = {.client = p->from, .dest = p->to};

	conntrack_remove_flow(t->tracked.dest.family != AF_UNSPEC ? &t->tracked : &f);
}

int trace_probe(struct trace *t, struct probe *p, enum cage_end end, int *send_err, struct diag *d)
{
	struct cage cage = {.table = ""};
	int r = probe_open(p, d);

	if (r < 0)
		return r;
	r = trace_open(t, d);
	if (r == 0)
		r = cage_open(&cage, p, end, d);
	if (r == 0) {
		*send_err = probe_send(p);
		r = trace_collect(t, &cage, *send_err < 0 ? 0 : TRACE_WAIT_MS);
		if (r < 0)
			diag_set(d, -r, NULL, 0, "cannot read the trace: %s", strerror(-r));
	}
	probe_close(p);
	/* Over the loopback interface it has passed the hook that enters a flow. */
	if (end == CAGE_ARRIVE && !probe_is_forwarded(p))
		trace_forget(t, p);
	cage_close(&cage);
	return r;
}
