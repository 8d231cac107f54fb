/* SPDX-License-Identifier: MIT */
#include "daemon/flow/refusals.h"

#include <string.h>

#include "daemon/core/log.h"

#define SECOND_MS 1000

void refusals_init(struct refusals *r, struct loop *loop)
{
	*r = (struct refusals){.loop = loop};
	timer_init(&r->timer);
}

bool refusals_concern(enum why why)
{
	static const char *const phases[] = {"accept", "request", "auth"};

	for (size_t i = 0; i < ARRAY_LEN(phases); i++) {
		if (strcmp(why_rows[why].phase, phases[i]) == 0)
			return true;
	}
	return false;
}

static void refusals_tell(struct refusals *r)
{
	for (size_t why = 0; why < WHY_COUNT; why++) {
		const struct why_row *row = &why_rows[why];
		struct log_line line;

		if (r->of[why].n_unsaid == 0)
			continue;
		if (log_begin(&line, row->level, "more flows refused")) {
			log_add_uint(&line, "count", r->of[why].n_unsaid);
			log_add(&line, "end", row->word);
			if (strcmp(row->phase, "any") != 0)
				log_add(&line, "phase", row->phase);
			log_end(&line);
		}
		r->of[why].n_unsaid = 0;
	}
}

static void refusals_second(struct timer *t)
{
	struct refusals *r = container_of(t, struct refusals, timer);
	bool any = false;

	refusals_tell(r);
	for (size_t why = 0; why < WHY_COUNT; why++) {
		if (r->of[why].n_said > 0 && --r->of[why].n_said > 0)
			any = true;
	}
	if (any)
		loop_timer(r->loop, t, SECOND_MS, refusals_second);
}

bool refusals_say(struct refusals *r, enum why why)
{
	struct refusal *of = &r->of[why];

	if (!timer_is_set(&r->timer))
		loop_timer(r->loop, &r->timer, SECOND_MS, refusals_second);
	if (of->n_said >= REFUSALS_BURST) {
		of->n_unsaid++;
		return false;
	}
	of->n_said++;
	return true;
}

void refusals_end(struct refusals *r)
{
	timer_cancel(&r->timer);
	refusals_tell(r);
}
