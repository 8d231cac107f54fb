/* SPDX-License-Identifier: MIT */
#include "rulemgr/watch_tell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void culprits_add(struct culprits *c, const struct event *event)
{
	for (size_t i = 0; i < c->n; i++) {
		if (c->list[i].pid == event->pid && strcmp(c->list[i].name, event->name) == 0)
			return;
	}
	if (c->n == CULPRITS_MAX)
		c->more = true;
	else
		c->list[c->n++] = *event;
}

static void put_culprits(const struct culprits *by, struct strbuf *out)
{
	if (by->n == 0 && !by->more)
		return;
	strbuf_puts(out, " by ");
	for (size_t i = 0; i < by->n; i++)
		strbuf_printf(out, "%s%s (pid %u)", i > 0 ? ", " : "", by->list[i].name,
			      by->list[i].pid);
	if (by->more)
		strbuf_puts(out, by->n > 0 ? " and others" : "an unknown process");
}

static void put_differences(const struct diff *diff, struct strbuf *out)
{
	for (size_t i = 0; i < diff->n && i < TOLD_DIFFS_MAX; i++) {
		strbuf_puts(out, i == 0 ? ": " : "; ");
		difference_format(&diff->items[i], out);
	}
	if (diff->n > TOLD_DIFFS_MAX)
		strbuf_printf(out, "; and %zu more differences", diff->n - TOLD_DIFFS_MAX);
}

static void put_routes(const struct routes_change *routes, struct strbuf *out)
{
	for (size_t i = 0; i < routes->n; i++) {
		strbuf_puts(out, i == 0 ? ": " : "; ");
		routes_step_tell(&routes->steps[i], out);
	}
}

static void put_json(const char *event, const char *text, const struct culprits *by,
		     const struct diff *diff, const struct routes_change *routes,
		     struct strbuf *out)
{
	struct json j;

	json_init(&j, out);
	json_object_begin(&j, NULL);
	json_string(&j, "command", "watch");
	json_int(&j, "time", time(NULL));
	json_string(&j, "event", event);
	json_string(&j, "table", MODEL_TABLE_TEXT);
	json_string(&j, "text", text);
	json_array_begin(&j, "by");
	for (size_t i = 0; by != NULL && i < by->n; i++) {
		json_object_begin(&j, NULL);
		json_string(&j, "name", by->list[i].name);
		json_uint(&j, "pid", by->list[i].pid);
		json_object_end(&j);
	}
	json_array_end(&j);
	if (diff != NULL)
		diff_put_json(diff, &j, "differences");
	if (routes != NULL)
		routes_change_tell_json(routes, &j, "routes");
	json_object_end(&j);
}

/* Of this host. */
static void put_time(struct strbuf *out)
{
	char text[32];
	time_t now = time(NULL);
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S ", localtime_r(&now, &tm));
	strbuf_puts(out, text);
}

static int write_line(struct strbuf *line)
{
	int r = puts(line->data) < 0 || fflush(stdout) != 0 ? -errno : 0;

	strbuf_free(line);
	return r;
}

int watch_tell(bool as_json, const char *event, const char *text, const struct culprits *by,
	       const struct diff *diff, const struct routes_change *routes)
{
	struct strbuf sb;

	strbuf_init_heap(&sb);
	if (as_json) {
		put_json(event, text, by, diff, routes, &sb);
	} else {
		put_time(&sb);
		strbuf_puts(&sb, text);
		if (by != NULL)
			put_culprits(by, &sb);
		if (diff != NULL)
			put_differences(diff, &sb);
		if (routes != NULL)
			put_routes(routes, &sb);
	}
	return write_line(&sb);
}

int watch_tell_rules(bool as_json, const char *event, const char *text, const char *differences,
		     void (*put)(void *ctx, struct json *j), void *ctx)
{
	struct strbuf sb;
	struct json j;

	strbuf_init_heap(&sb);
	if (as_json) {
		json_init(&j, &sb);
		json_object_begin(&j, NULL);
		json_string(&j, "command", "watch");
		json_int(&j, "time", time(NULL));
		json_string(&j, "event", event);
		json_string(&j, "backend", "iptables");
		json_string(&j, "text", text);
		json_array_begin(&j, "by");
		json_array_end(&j);
		put(ctx, &j);
		json_object_end(&j);
	} else {
		put_time(&sb);
		strbuf_puts(&sb, text);
		if (differences != NULL)
			strbuf_puts(&sb, differences);
	}
	return write_line(&sb);
}
