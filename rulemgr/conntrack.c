/* SPDX-License-Identifier: MIT */
#include "rulemgr/conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>
#include <netinet/in.h>
#include <string.h>

struct search {
	const struct have *have;
	struct own_addresses own;
	struct flows *flows; /* read */
	struct nfct_handle
		*second; /* removal: nothing else can be asked over a handle that dumps */
	size_t n_removed;
	int err; /* of the first removal that failed */
};

/* One end of a tuple: attributes of its address by family, and of its port. */
static struct addr endpoint(const struct nf_conntrack *ct, enum nf_conntrack_attr ip4,
			    enum nf_conntrack_attr ip6, enum nf_conntrack_attr port)
{
	bool six = nfct_get_attr_u8(ct, ATTR_ORIG_L3PROTO) == AF_INET6;
	const void *ip = nfct_get_attr(ct, six ? ip6 : ip4);
	static const uint8_t none[16];

	return addr_from_bytes(ip != NULL ? ip : none, six ? 16 : 4,
			       ntohs(nfct_get_attr_u16(ct, port)));
}

static bool is_redirected(const struct nf_conntrack *ct, const struct search *s)
{
	struct addr to = endpoint(ct, ATTR_REPL_IPV4_SRC, ATTR_REPL_IPV6_SRC, ATTR_REPL_PORT_SRC);

	/* Kernels before 5.8 do not filter by status and send all entries. */
	if (nfct_get_attr_u8(ct, ATTR_L4PROTO) != IPPROTO_TCP ||
	    !(nfct_get_attr_u32(ct, ATTR_STATUS) & IPS_DST_NAT))
		return false;
	for (size_t i = 0; i < s->have->ports.n; i++) {
		if (s->have->ports.list[i] == to.port)
			return own_addresses_have(&s->own, &to);
	}
	return false;
}

static int read_one(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *ctx)
{
	uint8_t state = nfct_get_attr_u8(ct, ATTR_TCP_STATE);
	struct search *s = ctx;
	struct flow flow;

	(void)type;
	if (state == TCP_CONNTRACK_TIME_WAIT || state == TCP_CONNTRACK_CLOSE ||
	    !is_redirected(ct, s))
		return NFCT_CB_CONTINUE;
	flow.client = endpoint(ct, ATTR_ORIG_IPV4_SRC, ATTR_ORIG_IPV6_SRC, ATTR_ORIG_PORT_SRC);
	flow.dest = endpoint(ct, ATTR_ORIG_IPV4_DST, ATTR_ORIG_IPV6_DST, ATTR_ORIG_PORT_DST);
	flows_add(s->flows, &flow);
	return NFCT_CB_CONTINUE;
}

static int remove_one(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *ctx)
{
	struct search *s = ctx;

	(void)type;
	if (!is_redirected(ct, s))
		return NFCT_CB_CONTINUE;
	if (nfct_query(s->second, NFCT_Q_DESTROY, ct) == 0)
		s->n_removed++;
	else if (errno != ENOENT && s->err == 0) /* ENOENT: it ended meanwhile */
		s->err = -errno;
	return NFCT_CB_CONTINUE;
}

typedef int conntrack_fn(enum nf_conntrack_msg_type, struct nf_conntrack *, void *);

/* Calls `fn` for each entry whose destination was translated. */
static int search_dump(struct search *s, conntrack_fn *fn)
{
	struct nfct_filter_dump_mark status = {.val = IPS_DST_NAT, .mask = IPS_DST_NAT};
	struct nfct_handle *handle = nfct_open(CONNTRACK, 0);
	struct nfct_filter_dump *filter = nfct_filter_dump_create();
	int r = 0;

	if (handle == NULL || filter == NULL) {
		r = errno != 0 ? -errno : -ENOMEM;
	} else {
		nfct_filter_dump_set_attr(filter, NFCT_FILTER_DUMP_STATUS, &status);
		nfct_callback_register(handle, NFCT_T_ALL, fn, s);
		if (nfct_query(handle, NFCT_Q_DUMP_FILTER, filter) < 0)
			r = -errno;
	}
	if (filter != NULL)
		nfct_filter_dump_destroy(filter);
	if (handle != NULL)
		nfct_close(handle);
	return r;
}

static int search_run(struct search *s, conntrack_fn *fn)
{
	int r = own_addresses_read(&s->own);

	if (r == 0)
		r = search_dump(s, fn);
	own_addresses_free(&s->own);
	return r;
}

int conntrack_read_redirected(const struct have *have, struct flows *f, struct diag *d)
{
	struct search s = {.have = have, .flows = f};
	int r = search_run(&s, read_one);

	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot count the redirected flows: %s",
				strerror(-r));
	return 0;
}

int conntrack_remove_redirected(const struct have *have, size_t *n, struct diag *d)
{
	struct search s = {.have = have, .second = nfct_open(CONNTRACK, 0)};
	int r = s.second != NULL ? search_run(&s, remove_one) : -errno;

	if (s.second != NULL)
		nfct_close(s.second);
	*n = s.n_removed;
	if (r == 0)
		r = s.err;
	if (r < 0)
		return diag_set(d, -r, NULL, 0,
				"cannot remove the conntrack entries of the redirected flows: %s",
				strerror(-r));
	return 0;
}

static struct nf_conntrack *flow_entry(const struct flow *f)
{
	bool six = f->dest.family == AF_INET6;
	struct nf_conntrack *ct = nfct_new();

	if (ct == NULL)
		return NULL;
	nfct_set_attr_u8(ct, ATTR_ORIG_L3PROTO, six ? AF_INET6 : AF_INET);
	nfct_set_attr_u8(ct, ATTR_ORIG_L4PROTO, IPPROTO_TCP);
	nfct_set_attr(ct, six ? ATTR_ORIG_IPV6_SRC : ATTR_ORIG_IPV4_SRC, f->client.ip);
	nfct_set_attr(ct, six ? ATTR_ORIG_IPV6_DST : ATTR_ORIG_IPV4_DST, f->dest.ip);
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_SRC, htons(f->client.port));
	nfct_set_attr_u16(ct, ATTR_ORIG_PORT_DST, htons(f->dest.port));
	return ct;
}

int conntrack_remove_flow(const struct flow *f)
{
	struct nfct_handle *handle = nfct_open(CONNTRACK, 0);
	struct nf_conntrack *ct = handle != NULL ? flow_entry(f) : NULL;
	int r = 0;

	if (ct == NULL)
		r = errno != 0 ? -errno : -ENOMEM;
	else if (nfct_query(handle, NFCT_Q_DESTROY, ct) < 0 && errno != ENOENT)
		r = -errno;
	if (ct != NULL)
		nfct_destroy(ct);
	if (handle != NULL)
		nfct_close(handle);
	return r;
}
