/* SPDX-License-Identifier: MIT */
#include "daemon/oneshot.h"

#include <errno.h>
#include <stdio.h>
#include <sysexits.h>

#include "daemon/admin/control_client.h"
#include "daemon/core/priv.h"
#include "daemon/net/sock.h"
#include "daemon/upstream/upstreams.h"
#include "policy/explain.h"

int oneshot_fail(const struct conf_program *p, int code, const struct diag *d)
{
	char text[1024];

	fprintf(stderr, "%s: %s\n", p->name, diag_format(d, text, sizeof(text)));
	return code;
}

static int oneshot_print(struct strbuf *text)
{
	bool failed = text->truncated || fputs(text->data, stdout) < 0 || fflush(stdout) != 0;

	strbuf_free(text);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The request that --status or --suggest stands for; NULL: neither. */
static const char *oneshot_question(const struct daemon_options *o)
{
	if (o->status)
		return o->json ? "status" : "status text";
	return o->suggest ? "suggest" : NULL;
}

/* Who asks how the daemon is may do so because something is wrong with the file. */
static int oneshot_assume_control(const struct conf_program *p, struct conf **c, struct diag *d)
{
	char text[1024];

	fprintf(stderr, "%s: warning: %s\n", p->name, diag_format(d, text, sizeof(text)));
	if (conf_load_defaults(p, c, d) < 0)
		return EX_CONFIG;
	fprintf(stderr, "%s: warning: asking on the default control socket, %s\n", p->name,
		(*c)->control);
	return EX_OK;
}

/* Prints what the running daemon says. */
static int oneshot_ask(const struct conf_program *p, const struct conf *c, const char *question,
		       struct strbuf *out)
{
	struct diag d;
	int rc;

	if (c->control[0] == '\0')
		rc = diag_set(&d, ENOENT, NULL, 0,
			      "option \"control\" is empty: there is no socket to ask");
	else
		rc = control_ask(c->control, question, out, &d);
	if (rc == 0)
		return oneshot_print(out);
	strbuf_free(out);
	return oneshot_fail(p, rc == -EACCES || rc == -EPERM ? EX_NOPERM : EX_UNAVAILABLE, &d);
}

static int oneshot_explain(const struct conf *c, const struct explain_flow *flow, bool json,
			   struct strbuf *out)
{
	if (json)
		explain_json(c, flow, UPSTREAM_TRIES_MAX, out);
	else
		explain_text(c, flow, UPSTREAM_TRIES_MAX, out);
	return oneshot_print(out);
}

static void oneshot_remark(void *ctx, const struct upstream_conf *up, const char *text)
{
	strbuf_printf(ctx, "%s:%d: note: %s\n", up->place.file, up->place.line, text);
}

/* Own addresses that are none, or not yet. Of a prefix no interface need have one. */
static void oneshot_remark_egress(const struct egress_list *list, struct place at,
				  const char *option, struct strbuf *out)
{
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < list->n; i++) {
		const struct prefix *p = &list->entries[i].prefix;
		struct addr a = addr_from_bytes(p->ip, p->family == AF_INET ? 4 : 16, 0);

		if (egress_is_address(p) && !sock_is_own(&a))
			strbuf_printf(out,
				      "%s:%d: note: option \"%s\": %s is not an address of this "
				      "host, so no connection comes from it\n",
				      at.file, at.line, option,
				      addr_format_ip(&a, text, sizeof(text)));
	}
}

static void oneshot_remark_addresses(const struct conf *c, struct strbuf *out)
{
	const struct egress_conf *e = &c->egress;

	upstreams_remark_sources(c, oneshot_remark, out);
	oneshot_remark_egress(&e->addresses, e->addresses_place, "outgoing.addresses", out);
	for (size_t i = 0; i < e->n_users; i++)
		oneshot_remark_egress(&e->users[i].addresses, e->users[i].place,
				      "outgoing.users.addresses", out);
}

/* What the daemon would find out once it is its user. This process ends after it, and so can become that. */
static void oneshot_check_files(const struct conf *c, const struct priv_user *user,
				struct strbuf *out)
{
	struct diag d;

	if (!user->change || priv_drop(user, &d) < 0) /* nothing is learned without */
		return;
	for (size_t i = 0; i < c->files.n; i++) {
		if (priv_may_read(c->user, c->files.strings[i], &d) < 0)
			strbuf_printf(out, "note: %s\n", d.text);
	}
}

/* Without its user the daemon does not start. That is no fault of the file, which may be meant for another host, but
 * stands where it is seen: last. */
static void oneshot_check(const struct conf *c, struct strbuf *out)
{
	struct priv_user user;
	struct diag missing;
	bool found = priv_find(c->user, &user, &missing) == 0;

	conf_remarks(c, out);
	if (found)
		oneshot_check_files(c, &user, out);
	oneshot_remark_addresses(c, out);
	if (found)
		strbuf_puts(out, "configuration OK\n");
	else
		strbuf_printf(out, "configuration OK, but %s will not start on this host: %s\n",
			      c->program->name, missing.text);
}

/* What needs a configuration. */
static int oneshot_with(const struct conf_program *p, const struct daemon_options *o,
			const struct explain_flow *flow, const struct conf *c, struct strbuf *out)
{
	if (oneshot_question(o) != NULL)
		return oneshot_ask(p, c, oneshot_question(o), out);
	if (o->explain != NULL)
		return oneshot_explain(c, flow, o->json, out);
	if (o->check)
		oneshot_check(c, out);
	else
		conf_dump(c, out);
	return oneshot_print(out);
}

static int oneshot_load(const struct conf_program *p, const struct daemon_options *o,
			struct conf **c)
{
	struct diag d;
	int code = options_load(o, p, c, &d);

	if (code == EX_CONFIG && oneshot_question(o) != NULL)
		code = oneshot_assume_control(p, c, &d);
	return code == EX_OK ? EX_OK : oneshot_fail(p, code, &d);
}

int oneshot_run(const struct daemon_program *p, const struct daemon_options *o)
{
	struct explain_flow flow;
	struct conf *c = NULL;
	struct strbuf out;
	struct diag d;
	int code;

	strbuf_init_heap(&out);
	if (o->help) {
		options_help(p->conf, p->flags, p->summary, &out);
		return oneshot_print(&out);
	}
	if (o->version) {
		strbuf_printf(&out, "%s %s\n", p->conf->name, TRANSOCKS_VERSION);
		return oneshot_print(&out);
	}
	/* The question is looked at first: nothing helps a bad one. */
	if (o->explain != NULL && explain_parse(&flow, o->explain, &d) < 0) {
		fprintf(stderr, "%s: --explain: %s\n", p->conf->name, d.text);
		return EX_USAGE;
	}
	if (oneshot_question(o) == NULL && o->explain == NULL && !o->check && !o->dump)
		return ONESHOT_NONE;
	code = oneshot_load(p->conf, o, &c);
	if (code == EX_OK)
		code = oneshot_with(p->conf, o, &flow, c, &out);
	conf_unref(c);
	return code;
}
