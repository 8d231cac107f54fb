/* SPDX-License-Identifier: MIT */
#include "daemon/admin/egress_status.h"

#include <inttypes.h>

static uint64_t egress_count(const atomic_uint_fast64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

void egress_status_json(const struct egress *e, struct json *j)
{
	json_array_begin(j, "egress");
	for (size_t i = 0; i < e->n; i++) {
		const struct egress_addr *a = e->items[i];

		json_object_begin(j, NULL);
		json_string(j, "address", a->text);
		json_string(j, "state", egress_state_word(a));
#define EGRESS_STATUS_JSON(name, help, from) \
	json_uint(j, #name, atomic_load_explicit(&from, memory_order_relaxed));
		EGRESS_STATUS_TABLE(EGRESS_STATUS_JSON)
#undef EGRESS_STATUS_JSON
		json_object_end(j);
	}
	json_array_end(j);
}

void egress_status_text(const struct egress *e, struct strbuf *out)
{
	if (e->n == 0)
		return;
	strbuf_printf(out, "\n%8s  %10s  %10s  %-9s  %s\n", "flows", "connects", "failed", "state",
		      "egress");
	for (size_t i = 0; i < e->n; i++) {
		const struct egress_addr *a = e->items[i];

		strbuf_printf(out, "%8zu  %10" PRIu64 "  %10" PRIu64 "  %-9s  %s\n",
			      atomic_load_explicit(&a->flows, memory_order_relaxed),
			      egress_count(&a->connects), egress_count(&a->failed),
			      egress_state_word(a), a->text);
	}
}
