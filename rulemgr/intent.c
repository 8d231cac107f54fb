/* SPDX-License-Identifier: MIT */
#include "rulemgr/intent.h"

#include <errno.h>

#include "rulemgr/resolve.h"
#include "rulemgr/sync.h"
#include "rulemgr/trial.h"

static int out_of_memory(struct report *r)
{
	diag_no_memory(&r->error);
	return EXIT_FAILURE;
}

int intent_build(const struct args *a, struct want *w, struct model *m, struct report *r)
{
	int code = resolve_want(a, false, w, r);

	if (code != 0)
		return code;
	return want_build(w, m) < 0 ? out_of_memory(r) : 0;
}

int intent_compare_routes(struct intent *i, struct report *r)
{
	const struct mark *mark = want_routes_mark(&i->want);
	const struct route_item *other;
	struct routes all;
	struct strbuf text;
	int err = routes_read(&all, &r->error);

	if (err < 0)
		return report_exit_code(err);
	other = mark != NULL ? routes_conflict(&all, mark, i->want.family) : NULL;
	strbuf_init(&text, i->in_the_way, sizeof(i->in_the_way));
	if (other != NULL)
		route_item_format(other, &text);
	err = routes_plan(&all, mark, i->want.family, &i->routes);
	routes_free(&all);
	return err < 0 ? out_of_memory(r) : 0;
}

/* Of a table on trial, the half that decides at the moment. */
static void intent_choose_half(struct intent *i)
{
	if (!trial_is_on(&i->found))
		return;
	i->on_trial = !trial_is_over(&i->found);
	i->trial_left_ms = trial_left(&i->found);
	i->trial_of_first = !trial_has_previous(&i->found);
	if (i->on_trial)
		trial_keep_new(&i->found);
	else if (!trial_keep_previous(&i->found))
		i->have.present = false;
}

int intent_compare(struct kernel *k, const struct args *a, struct intent *i, struct report *r)
{
	int err, code = intent_build(a, &i->want, &i->wanted, r);

	if (code != 0)
		return code;
	err = sync_read(k, &i->have, &i->found, &r->error);
	if (err == 0)
		err = sync_check_owner(&i->have, &r->error);
	if (err < 0)
		return report_exit_code(err);
	intent_choose_half(i);
	if (i->have.present && diff_models(&i->wanted, &i->found, &i->diff) < 0)
		return out_of_memory(r);
	return i->have.present ? intent_compare_routes(i, r) : 0;
}

void intent_free(struct intent *i)
{
	model_free(&i->wanted);
	model_free(&i->found);
	diff_free(&i->diff);
	routes_change_free(&i->routes);
}

void intent_tell_routes(const struct intent *i, struct report *r)
{
	routes_change_tell(&i->routes, &r->text);
	routes_change_tell_json(&i->routes, &r->json, "routes");
	if (i->in_the_way[0] == '\0')
		return;
	strbuf_printf(&r->text, "in the way: ip %s\n", i->in_the_way);
	json_string(&r->json, "in_the_way", i->in_the_way);
}

/* The usual reason; what commands of ours leave there for a while has another. */
static bool is_puzzling(const struct intent *i)
{
	bool puzzling = i->routes.n > 0;

	for (size_t n = 0; n < i->diff.n; n++)
		puzzling |= difference_cause(&i->diff.items[n]) == NULL;
	return puzzling;
}

void intent_tell(const struct intent *i, size_t max, struct report *r)
{
	diff_put_json(&i->diff, &r->json, "differences");
	for (size_t n = 0; n < i->diff.n && n < max; n++) {
		difference_format(&i->diff.items[n], &r->text);
		strbuf_putc(&r->text, '\n');
	}
	intent_tell_routes(i, r);
	if (is_puzzling(i))
		strbuf_puts(&r->text, INTENT_HINT "\n");
}

size_t intent_differences(const struct intent *i)
{
	return i->diff.n + i->routes.n + (i->in_the_way[0] != '\0');
}

int intent_judge(const struct intent *i, struct report *r)
{
	if (!i->have.present) {
		diag_set(&r->error, ENOENT, NULL, 0, MODEL_NOT_INSTALLED);
		return EXIT_NOT_INSTALLED;
	}
	if (intent_differences(i) > 0) {
		diag_set(&r->error, ESTALE, NULL, 0,
			 "table %s differs in %zu place%s from what is configured",
			 MODEL_TABLE_TEXT, intent_differences(i), plural(intent_differences(i)));
		return EXIT_DRIFT;
	}
	return 0;
}
