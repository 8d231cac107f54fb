/* SPDX-License-Identifier: MIT */
#include "daemon/admin/udp_status.h"

#include <inttypes.h>

#include "daemon/core/shared.h"

static size_t udp_count(const atomic_size_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

uint64_t udp_status_dropped(const struct status *st, unsigned why)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < st->n_engines; i++)
		n += SHARED_GET(st->engines[i].udp_dropped[why]);
	return n;
}

void udp_status_json(const struct status *st, struct json *j)
{
	json_object_begin(j, "udp");
	json_uint(j, "associations", udp_count(&st->budget->udp_live));
	json_uint(j, "max_associations", udp_count(&st->budget->udp_max));
	json_object_begin(j, "dropped");
	for (unsigned why = 0; why < UDP_DROP_COUNT; why++)
		json_uint(j, udp_drop_words[why], udp_status_dropped(st, why));
	json_object_end(j);
	json_object_end(j);
}

void udp_status_text(const struct status *st, struct strbuf *out)
{
	bool head = false;

	strbuf_printf(out, "\n%-18s  %5zu of %zu\n", "UDP associations",
		      udp_count(&st->budget->udp_live), udp_count(&st->budget->udp_max));
	for (unsigned why = 0; why < UDP_DROP_COUNT; why++) {
		uint64_t n = udp_status_dropped(st, why);

		if (n > 0 && !head)
			strbuf_printf(out, "%-18s  %12s\n", "dropped", "datagrams");
		head = head || n > 0;
		if (n > 0)
			strbuf_printf(out, "%-18s  %12" PRIu64 "\n", udp_drop_words[why], n);
	}
}
