/* SPDX-License-Identifier: MIT */
/*
 * status and diff where iptables did the work.
 */
#include "rulemgr/iptables_cmd.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/iptables_trial_sync.h"
#include "rulemgr/resolve.h"
#include "rulemgr/status.h"
#include "rulemgr/trial_tell.h"

struct view {
	struct intent i; /* without models: what is wanted, ports and routes */
	struct iptables_have have;
	size_t n; /* differences in the rules */
};

static void count_nothing(void *ctx, int family, bool missing, const struct iptables_line *l)
{
	(void)ctx;
	(void)family;
	(void)missing;
	(void)l;
}

/* An exit code: 0 also where nothing is installed, or something else. */
static int view_read(const struct args *a, struct view *v, struct report *r)
{
	int n, err, code = resolve_want(a, false, &v->i.want, r);

	if (code != 0)
		return code;
	err = iptables_check(&v->i.want, &r->error);
	if (err == 0)
		err = iptables_read(&v->have, &r->error);
	if (err < 0)
		return report_exit_code(err);
	iptables_as_have(&v->have, &v->i.have);
	if (!v->have.present)
		return 0;
	n = iptables_compare(&v->have, &v->i.want, count_nothing, NULL);
	if (n < 0) {
		diag_set(&r->error, -n, NULL, 0, "no memory for the rules of iptables");
		return report_exit_code(n);
	}
	v->n = (size_t)n;
	return intent_compare_routes(&v->i, r);
}

static void view_free(struct view *v)
{
	intent_free(&v->i);
	iptables_have_free(&v->have);
}

static size_t view_differences(const struct view *v)
{
	return v->n + v->i.routes.n;
}

struct telling {
	struct report *r;
	size_t n, max;
};

/* Others may have put anything into a comment. */
static void put_line(const struct iptables_line *l, struct strbuf *out)
{
	if (l->kind == IPTABLES_CHAIN) {
		strbuf_printf(out, "chain %s", l->chain);
		return;
	}
	strbuf_printf(out, "-A %s ", l->chain);
	for (const char *at = l->rest; *at != '\0'; at++)
		strbuf_putc(out, *at >= ' ' && *at <= '~' ? *at : '?');
}

void iptables_difference_format(int family, bool missing, const struct iptables_line *l,
				struct strbuf *out)
{
	strbuf_printf(out, "%s in table %s of %s: ", missing ? "missing" : "not configured",
		      l->table, listeners_family[family]);
	put_line(l, out);
}

void iptables_difference_put(int family, bool missing, const struct iptables_line *l,
			     struct json *j)
{
	static const char *const objects[] = {
		[IPTABLES_CHAIN] = "chain", [IPTABLES_RULE] = "rule", [IPTABLES_JUMP] = "jump"};

	json_object_begin(j, NULL);
	json_string(j, "kind", missing ? "missing" : "extra");
	json_string(j, "object", objects[l->kind]);
	json_string(j, "family", listeners_family[family]);
	json_string(j, "table", l->table);
	json_string(j, "chain", l->chain);
	if (l->kind != IPTABLES_CHAIN)
		json_string(j, "rule", l->rest);
	json_object_end(j);
}

static void tell_difference(void *ctx, int family, bool missing, const struct iptables_line *l)
{
	struct telling *t = ctx;

	iptables_difference_put(family, missing, l, &t->r->json);
	if (t->n++ >= t->max)
		return;
	iptables_difference_format(family, missing, l, &t->r->text);
	strbuf_putc(&t->r->text, '\n');
}

/* 0 or -ENOMEM with r->error. */
static int tell_differences(const struct view *v, size_t max, struct report *r)
{
	struct telling t = {.r = r, .max = max};
	int n;

	json_array_begin(&r->json, "differences");
	n = iptables_compare(&v->have, &v->i.want, tell_difference, &t);
	json_array_end(&r->json);
	intent_tell_routes(&v->i, r);
	return n < 0 ? diag_set(&r->error, -n, NULL, 0, "no memory for the rules of iptables") : 0;
}

static int view_judge(const struct view *v, struct report *r)
{
	size_t n = view_differences(v);

	if (!v->have.present) {
		diag_set(&r->error, ENOENT, NULL, 0, "no rules of iptables are installed");
		return EXIT_NOT_INSTALLED;
	}
	if (n == 0)
		return 0;
	diag_set(&r->error, ESTALE, NULL, 0,
		 "the rules of iptables differ in %zu place%s from what is configured", n,
		 plural(n));
	return EXIT_DRIFT;
}

/* 0 or -ENOMEM with r->error. */
static int tell_rules(const struct view *v, struct report *r)
{
	bool in_sync = view_differences(v) == 0;
	int err;

	json_string(&r->json, "backend", "iptables");
	json_bool(&r->json, "installed", v->have.present);
	if (!v->have.present) {
		strbuf_puts(&r->text, "rules of iptables: not installed\n");
		return 0;
	}
	json_bool(&r->json, "in_sync", in_sync);
	json_bool(&r->json, "on_trial", v->have.tried);
	if (v->have.tried)
		trial_tell_left(iptables_trial_left(&v->have.trial), v->have.trial.previous, r);
	json_bool(&r->json, "draining", v->have.paused);
	if (v->have.paused)
		strbuf_puts(&r->text,
			    "draining: new flows go direct, and the rules stay for the "
			    "live ones (`transocks-rules flush` goes on, install ends it)\n");
	strbuf_printf(&r->text, "rules of iptables: %s\n",
		      in_sync ? "in sync with the configuration" : "not as configured");
	err = tell_differences(v, STATUS_DIFFERENCES_MAX, r);
	status_tell_more(v->n, r);
	return err;
}

static void tell_counter(const struct iptables_line *l, int family, const char *comment,
			 struct strbuf *out)
{
	if (l->packets == 0)
		return;
	strbuf_printf(out, "%llu packets, %llu bytes: ", (unsigned long long)l->packets,
		      (unsigned long long)l->bytes);
	strbuf_put_quoted(out, comment, strlen(comment));
	strbuf_printf(out, " of chain %s, table %s of %s\n", l->chain, l->table,
		      listeners_family[family]);
}

static void tell_counters(const struct iptables_text *t, int family, struct report *r)
{
	char comment[MODEL_COMMENT_MAX];

	for (size_t i = 0; i < t->n; i++) {
		const struct iptables_line *l = &t->lines[i];

		if (l->kind != IPTABLES_RULE)
			continue;
		iptables_line_comment(l, comment, sizeof(comment));
		tell_counter(l, family, comment, &r->text);
		json_object_begin(&r->json, NULL);
		json_string(&r->json, "family", listeners_family[family]);
		json_string(&r->json, "table", l->table);
		json_string(&r->json, "chain", l->chain);
		json_string(&r->json, "rule", comment);
		json_uint(&r->json, "packets", l->packets);
		json_uint(&r->json, "bytes", l->bytes);
		json_object_end(&r->json);
	}
}

static void count_exception(void *ctx, int family, const char *match, const char *comment)
{
	size_t *n = ctx;

	(void)family;
	(void)match;
	(void)comment;
	++*n;
}

static void tell_use(const struct view *v, struct report *r)
{
	size_t exceptions = 0;

	status_tell_flows(&v->i, r);
	iptables_bypass_list(&v->have, count_exception, &exceptions);
	status_tell_exceptions(exceptions, r);
	json_array_begin(&r->json, "counters");
	for (int f = 0; f < LISTENERS_FAMILIES; f++)
		tell_counters(&v->have.text[f], f, r);
	json_array_end(&r->json);
}

static int status_of(const struct args *a, struct view *v, struct report *r)
{
	int err, code = view_read(a, v, r);
	bool unheard;

	if (code != 0)
		return code;
	err = tell_rules(v, r);
	if (err < 0)
		return report_exit_code(err);
	status_tell_policy(&v->i, r);
	unheard = status_tell_listeners(&v->i, r);
	if (v->have.present)
		tell_use(v, r);
	return status_judge(view_judge(v, r), unheard, &v->i, r);
}

int iptables_status_run(const struct args *a, struct report *r)
{
	struct view v = {.n = 0};
	int code = status_of(a, &v, r);

	view_free(&v);
	return code;
}

int iptables_diff_run(const struct args *a, struct report *r)
{
	struct view v = {.n = 0};
	int err = 0, code = view_read(a, &v, r);

	if (code == 0) {
		json_string(&r->json, "backend", "iptables");
		json_bool(&r->json, "installed", v.have.present);
		if (v.have.present)
			err = tell_differences(&v, SIZE_MAX, r);
		code = err < 0 ? report_exit_code(err) : view_judge(&v, r);
	}
	view_free(&v);
	return code;
}
