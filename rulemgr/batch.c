/* SPDX-License-Identifier: MIT */
#include "rulemgr/batch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/common.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

struct batch {
	char *bytes; /* finished messages, one after the other */
	size_t len, cap;
	struct origin *origins; /* of the finished messages; message i has sequence number i + 1 */
	size_t n_origins, cap_origins;
	char message[KERNEL_MESSAGE_MAX]; /* the one being built */
	struct origin origin;             /* of `message` */
};

/* What the kernel said. The first error is the cause of those after it. */
struct answer {
	int err; /* negative errno of the first error, 0: none */
	uint32_t seq;
	uint32_t offset; /* into the message of that number, to what is wrong; 0: not said */
	size_t n_errors;
	char words[160]; /* extended ack, "" if there is none */
};

void batch_free(struct batch *b)
{
	if (b == NULL)
		return;
	free(b->bytes);
	free(b->origins);
	free(b);
}

struct batch *batch_new(uint32_t generation)
{
	struct batch *b = calloc(1, sizeof(*b));
	struct nlmsghdr *h;

	if (b == NULL)
		return NULL;
	h = nftnl_batch_begin(b->message, 1);
	mnl_attr_put_u32(h, NFNL_BATCH_GENID, htonl(generation));
	if (batch_end_message(b) == 0)
		return b;
	batch_free(b);
	return NULL;
}

struct nlmsghdr *batch_message(struct batch *b, uint16_t type, uint16_t flags, struct origin origin)
{
	b->origin = origin;
	/* No acknowledgements: errors come without, and some kernels send too many of those. */
	return nftnl_nlmsg_build_hdr(b->message, type, NFPROTO_INET, flags,
				     (uint32_t)b->n_origins + 1);
}

/* `mem` with room for `n` more items of `size` bytes behind `used` ones. NULL: no memory. */
static void *grow(void *mem, size_t *cap, size_t used, size_t n, size_t size)
{
	size_t wanted = *cap > 0 ? *cap : 64;
	void *larger;

	while (wanted - used < n)
		wanted *= 2;
	if (wanted == *cap)
		return mem;
	larger = reallocarray(mem, wanted, size);
	if (larger != NULL)
		*cap = wanted;
	return larger;
}

int batch_end_message(struct batch *b)
{
	size_t n = NLMSG_ALIGN(((struct nlmsghdr *)b->message)->nlmsg_len);
	char *bytes = grow(b->bytes, &b->cap, b->len, n, 1);
	struct origin *origins;

	BUG_ON(n > sizeof(b->message));
	if (bytes == NULL)
		return -ENOMEM;
	b->bytes = bytes;
	origins = grow(b->origins, &b->cap_origins, b->n_origins, 1, sizeof(*origins));
	if (origins == NULL)
		return -ENOMEM;
	b->origins = origins;
	memcpy(b->bytes + b->len, b->message, n);
	b->len += n;
	b->origins[b->n_origins++] = b->origin;
	return 0;
}

static void answer_add(struct answer *a, const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	size_t skip = sizeof(*e);
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*e) || e->error == 0)
		return;
	if (a->n_errors++ > 0)
		return;
	a->err = e->error;
	a->seq = h->nlmsg_seq;
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += e->msg.nlmsg_len - sizeof(e->msg);
	mnl_attr_for_each(attr, h, skip)
	{
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
			snprintf(a->words, sizeof(a->words), "%s", mnl_attr_get_str(attr));
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_OFFS &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			a->offset = mnl_attr_get_u32(attr);
	}
}

/* The kernel has done its work when send returns: its answers are already there. */
static int batch_receive(struct kernel *k, struct answer *a)
{
	for (;;) {
		ssize_t n = recv(mnl_socket_get_fd(k->sock), k->buffer, KERNEL_BUFFER_LEN,
				 MSG_DONTWAIT);
		int left = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		for (const struct nlmsghdr *h = (struct nlmsghdr *)k->buffer; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left)) {
			if (h->nlmsg_type == NLMSG_ERROR)
				answer_add(a, h);
		}
	}
}

static const struct nlmsghdr *batch_find_message(const struct batch *b, uint32_t seq)
{
	size_t at = 0;

	while (at < b->len) {
		const struct nlmsghdr *h = (const void *)(b->bytes + at);

		if (h->nlmsg_seq == seq)
			return h;
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	return NULL;
}

/* Whether it is the second key of a range. */
static bool is_interval_end(const struct nlattr *element)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, element)
	{
		if (mnl_attr_get_type(a) == NFTA_SET_ELEM_FLAGS)
			return (ntohl(mnl_attr_get_u32(a)) & NFT_SET_ELEM_INTERVAL_END) != 0;
	}
	return false;
}

/* How many elements of the message begin before `offset`; all of them if it is larger. */
static size_t count_elements(const struct nlmsghdr *h, uint32_t offset)
{
	const struct nlattr *list, *element;
	size_t n = 0;

	mnl_attr_for_each(list, h, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(list) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(element, list)
		{
			if ((size_t)((const char *)element - (const char *)h) > offset)
				return n;
			if (!is_interval_end(element))
				n++;
		}
	}
	return n;
}

/* Old kernels do not say which of the elements of a message it was. */
static void elements_format(const struct batch *b, const struct answer *a, const struct origin *o,
			    char *out, size_t cap)
{
	const struct nlmsghdr *h = batch_find_message(b, a->seq);
	size_t n = h != NULL ? count_elements(h, a->offset != 0 ? a->offset : UINT32_MAX) : 1;
	char first[ELEMENT_TEXT_MAX], last[ELEMENT_TEXT_MAX];

	if (n == 0)
		n = 1;
	element_format(o->set, o->element, first, sizeof(first));
	element_format(o->set, o->element + n - 1, last, sizeof(last));
	if (a->offset != 0 || n == 1)
		snprintf(out, cap, "element %s of set %s", last, o->set->name);
	else
		snprintf(out, cap, "one of the elements %s to %s of set %s", first, last,
			 o->set->name);
}

static void origin_format(const struct batch *b, const struct answer *a, char *out, size_t cap)
{
	const struct origin *o = &b->origins[a->seq - 1];

	if (o->element != NULL)
		elements_format(b, a, o, out, cap);
	else if (o->set != NULL)
		snprintf(out, cap, "set %s", o->set->name);
	else if (o->rule != NULL)
		snprintf(out, cap, "rule \"%s\" of chain %s", o->rule->comment, o->chain->name);
	else if (o->chain != NULL)
		snprintf(out, cap, "chain %s", o->chain->name);
	else
		snprintf(out, cap, "table %s", MODEL_TABLE_TEXT);
}

static int batch_judge(const struct batch *b, const struct answer *a, struct diag *d)
{
	char part[2 * ELEMENT_TEXT_MAX + MODEL_NAME_MAX + 64], others[48] = "";
	/* Every name in a batch is one that the batch itself defines: what the kernel does not find
	 * is one of its own modules. */
	bool lacking = a->err == -ENOENT || a->err == -EOPNOTSUPP;

	if (a->err == 0 || a->err == -ERESTART)
		return a->err;
	if (a->seq == 0 || a->seq > b->n_origins)
		return diag_set(d, -a->err, NULL, 0, "the kernel refused the batch: %s",
				strerror(-a->err));
	origin_format(b, a, part, sizeof(part));
	if (a->n_errors > 1)
		snprintf(others, sizeof(others), "; %zu more errors after it", a->n_errors - 1);
	diag_set(d, -a->err, NULL, 0, "the kernel refused %s: %s%s%s%s%s", part, strerror(-a->err),
		 lacking ? " (it lacks a feature that this needs)" : "",
		 a->words[0] != '\0' ? ": " : "", a->words, others);
	return lacking ? -EOPNOTSUPP : a->err;
}

int batch_send(struct batch *b, struct kernel *k, bool commit, struct diag *d)
{
	struct answer a = {0};
	int r;

	if (commit) {
		nftnl_batch_end(b->message, (uint32_t)b->n_origins + 1);
		b->origin = (struct origin){0};
		if (batch_end_message(b) < 0)
			return diag_no_memory(d);
	}
	kernel_make_room(k, b->len);
	if (mnl_socket_sendto(k->sock, b->bytes, b->len) < 0) {
		r = errno;
		return diag_set(d, r, NULL, 0, "cannot send %zu bytes to netfilter: %s%s", b->len,
				strerror(r),
				r == EMSGSIZE ? " (sysctl net.core.wmem_max is too small)" : "");
	}
	r = batch_receive(k, &a);
	if (r < 0 && a.err == 0)
		return diag_set(
			d, -r, NULL, 0,
			"netfilter's answer is lost (%s): it may have changed the rules or not",
			strerror(-r));
	return batch_judge(b, &a, d);
}
