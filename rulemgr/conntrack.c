/* SPDX-License-Identifier: MIT */
#include "rulemgr/conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack_tcp.h>
#include <netinet/in.h>
#include <string.h>

struct count {
	const struct have *have;
	size_t n;
};

static bool is_redirected(const struct nf_conntrack *ct, const struct have *have)
{
	uint8_t state = nfct_get_attr_u8(ct, ATTR_TCP_STATE);
	uint16_t port = ntohs(nfct_get_attr_u16(ct, ATTR_REPL_PORT_SRC));

	/* Kernels before 5.8 do not filter by status and send all entries. */
	if (nfct_get_attr_u8(ct, ATTR_L4PROTO) != IPPROTO_TCP ||
	    !(nfct_get_attr_u32(ct, ATTR_STATUS) & IPS_DST_NAT) ||
	    state == TCP_CONNTRACK_TIME_WAIT || state == TCP_CONNTRACK_CLOSE)
		return false;
	for (size_t i = 0; i < have->n_ports; i++) {
		if (have->ports[i] == port)
			return true;
	}
	return false;
}

static int count_one(enum nf_conntrack_msg_type type, struct nf_conntrack *ct, void *ctx)
{
	struct count *count = ctx;

	(void)type;
	if (is_redirected(ct, count->have))
		count->n++;
	return NFCT_CB_CONTINUE;
}

int conntrack_count_redirected(const struct have *have, size_t *n, struct diag *d)
{
	struct nfct_filter_dump_mark status = {.val = IPS_DST_NAT, .mask = IPS_DST_NAT};
	struct count count = {.have = have};
	struct nfct_handle *handle = nfct_open(CONNTRACK, 0);
	struct nfct_filter_dump *filter = nfct_filter_dump_create();
	int r = 0;

	if (handle == NULL || filter == NULL) {
		r = errno != 0 ? -errno : -ENOMEM;
	} else {
		nfct_filter_dump_set_attr(filter, NFCT_FILTER_DUMP_STATUS, &status);
		nfct_callback_register(handle, NFCT_T_ALL, count_one, &count);
		if (nfct_query(handle, NFCT_Q_DUMP_FILTER, filter) < 0)
			r = -errno;
	}
	if (filter != NULL)
		nfct_filter_dump_destroy(filter);
	if (handle != NULL)
		nfct_close(handle);
	if (r < 0)
		return diag_set(d, -r, NULL, 0, "cannot count the proxied flows: %s", strerror(-r));
	*n = count.n;
	return 0;
}
