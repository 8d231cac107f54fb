/* SPDX-License-Identifier: MIT */
/*
 * Bytes as a list of netlink messages from nf_tables, read into a model, compared with the table that is wanted by
 * default, and told. Whatever the kernel says, the model must be one that every reader can walk.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rulemgr/carry.h"
#include "rulemgr/decode.h"
#include "rulemgr/diff.h"
#include "tests/unit/wants.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void wanted_build(struct model *m)
{
	static struct redirect options;
	struct want w = want_default(&options);

	if (want_build(&w, m) < 0)
		abort();
}

/* Elements are in order, and no range ends before it begins. */
static void check_sets(const struct model *m)
{
	for (size_t i = 0; i < m->n_sets; i++) {
		const struct set *s = &m->sets[i];

		if (s->key_len > VALUE_MAX)
			abort();
		for (size_t k = 1; k < s->n_elements; k++) {
			if (element_compare(s, &s->elements[k - 1], &s->elements[k]) > 0)
				abort();
		}
	}
}

static void compare(const struct model *have)
{
	struct strbuf text;
	struct model want;
	struct diff d;

	wanted_build(&want);
	if (diff_models(&want, have, &d) < 0)
		abort();
	strbuf_init_heap(&text);
	for (size_t i = 0; i < d.n; i++)
		difference_format(&d.items[i], &text);
	if (strpbrk(text.data, "\n\033\r") != NULL)
		abort(); /* a name or comment has forged a line */
	strbuf_free(&text);
	diff_free(&d);
	if (carry_elements(&want, have) < 0)
		abort();
	check_sets(&want);
	model_free(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct decode decoded = {.has_table = false};
	struct nlmsghdr *messages = malloc(len + 1); /* aligned, and no byte more than there is */
	struct model m;
	int left = (int)len;

	if (messages == NULL || len > INT32_MAX)
		abort();
	memcpy(messages, data, len);
	/* mnl_nlmsg_ok() takes a length of 2^31 and more for a negative one; the kernel sends none. */
	for (struct nlmsghdr *h = messages;
	     left >= (int)sizeof(*h) && h->nlmsg_len <= (uint32_t)left && mnl_nlmsg_ok(h, left);
	     h = mnl_nlmsg_next(h, &left)) {
		if (decode_message(&decoded, h) < 0)
			abort();
	}
	free(messages);
	if (decode_finish(&decoded, &m) < 0)
		abort();
	check_sets(&m);
	compare(&m);
	model_free(&m);
	return 0;
}
