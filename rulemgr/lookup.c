/* SPDX-License-Identifier: MIT */
#include "rulemgr/lookup.h"

#include <errno.h>
#include <libnftnl/set.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

#include "policy/strbuf.h"
#include "rulemgr/model.h"
#include "rulemgr/udata.h"

struct found {
	struct addr key; /* AF_UNSPEC: none */
	bool is_end;     /* `key` is one past the last of the range */
	char comment[MODEL_COMMENT_MAX];
};

static int read_element(struct nftnl_set_elem *e, void *ctx)
{
	struct found *found = ctx;
	uint32_t len = 0;
	const void *key = nftnl_set_elem_get(e, NFTNL_SET_ELEM_KEY, &len);
	const void *data;
	const char *comment = NULL;

	if (key == NULL || (len != 4 && len != 16))
		return 0;
	found->key = addr_from_bytes(key, len, 0);
	found->is_end =
		nftnl_set_elem_is_set(e, NFTNL_SET_ELEM_FLAGS) &&
		(nftnl_set_elem_get_u32(e, NFTNL_SET_ELEM_FLAGS) & NFT_SET_ELEM_INTERVAL_END);
	data = nftnl_set_elem_get(e, NFTNL_SET_ELEM_USERDATA, &len);
	if (data != NULL)
		comment = udata_find_string(data, len, NFTNL_UDATA_SET_ELEM_COMMENT);
	snprintf(found->comment, sizeof(found->comment), "%s", comment != NULL ? comment : "");
	return 0;
}

static int read_answer(const struct nlmsghdr *h, void *ctx)
{
	struct nftnl_set *s = nftnl_set_alloc();

	if (s == NULL) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	if (nftnl_set_elems_nlmsg_parse(h, s) == 0)
		nftnl_set_elem_foreach(s, read_element, ctx);
	nftnl_set_free(s);
	return MNL_CB_OK;
}

/* The one that `a` falls into; with NFT_SET_ELEM_INTERVAL_END in `flags`, the end of that range. */
static int ask(struct kernel *k, const char *set, const struct addr *a, uint32_t flags,
	       struct found *found)
{
	char buf[KERNEL_MESSAGE_MAX] = {0};
	struct nlmsghdr *h = kernel_question(k, buf, NFT_MSG_GETSETELEM, NFPROTO_INET, 0);
	struct nftnl_set_elem *e = nftnl_set_elem_alloc();
	struct nftnl_set *s = nftnl_set_alloc();
	int r = -ENOMEM;

	if (e != NULL && s != NULL && nftnl_set_set_str(s, NFTNL_SET_TABLE, MODEL_TABLE) == 0 &&
	    nftnl_set_set_str(s, NFTNL_SET_NAME, set) == 0 &&
	    nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, a->ip, (uint32_t)addr_len(a)) == 0) {
		nftnl_set_elem_set_u32(e, NFTNL_SET_ELEM_FLAGS, flags);
		nftnl_set_elem_add(s, e);
		e = NULL; /* the set's now */
		nftnl_set_elems_nlmsg_build_payload(h, s);
		r = kernel_ask(k, h, read_answer, found);
	}
	if (e != NULL)
		nftnl_set_elem_free(e);
	if (s != NULL)
		nftnl_set_free(s);
	return r;
}

int lookup_element(struct kernel *k, const char *set, const struct addr *a, char *out, size_t cap)
{
	struct found first = {.is_end = false}, end = {.is_end = false};
	char low[ADDR_TEXT_MAX], high[ADDR_TEXT_MAX] = "";
	int r = ask(k, set, a, 0, &first);
	struct strbuf sb;

	if (r == 0 && (first.key.family != a->family || first.is_end))
		r = -ENOENT;
	if (r < 0)
		return r;
	addr_format_ip(&first.key, low, sizeof(low));
	/* The range up to the last address has no end; a set of single addresses has none at all. */
	if (ask(k, set, a, NFT_SET_ELEM_INTERVAL_END, &end) == 0 && end.is_end &&
	    end.key.family == a->family) {
		key_decrement(end.key.ip, addr_len(&end.key));
		addr_format_ip(&end.key, high, sizeof(high));
	}
	strbuf_init(&sb, out, cap);
	strbuf_puts(&sb, low);
	if (high[0] != '\0' && strcmp(high, low) != 0)
		strbuf_printf(&sb, "-%s", high);
	if (first.comment[0] != '\0') {
		strbuf_putc(&sb, ' ');
		strbuf_put_quoted(&sb, first.comment, strlen(first.comment));
	}
	return 0;
}
