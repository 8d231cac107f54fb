/* SPDX-License-Identifier: MIT */
/* The sub-command `test`. */
#include "rulemgr/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "rulemgr/iptables_cmd.h"
#include "rulemgr/lookup.h"
#include "rulemgr/have.h"
#include "rulemgr/resolve.h"

static void explain_warn_legacy(struct report *r)
{
	static const char *const files[] = {"/proc/thread-self/net/ip_tables_names",
					    "/proc/thread-self/net/ip6_tables_names"};
	char names[256];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);
		ssize_t n = fd >= 0 ? read(fd, names, sizeof(names) - 1) : -1;

		if (fd >= 0)
			close(fd);
		if (n <= 0)
			continue;
		names[n - 1] = '\0';
		for (char *c = names; *c != '\0'; c++)
			*c = *c == '\n' ? ' ' : *c;
		report_warn(r,
			    "iptables-legacy has %s tables (%s): what their rules do is not in "
			    "the trace",
			    i == 0 ? "IPv4" : "IPv6", names);
	}
}

static const char *verdict_word(const struct step *s)
{
	switch (s->verdict) {
	case NF_DROP:
		return s->effect == EFFECT_REJECT ? "reject" : "drop";
	case NF_ACCEPT:
		switch (s->effect) {
		case EFFECT_REDIRECT:
			return "redirect";
		case EFFECT_TPROXY:
			return "tproxy";
		default:
			return "accept";
		}
	case NFT_RETURN:
		return "return";
	case NFT_CONTINUE:
	case NFT_BREAK:
		return "continue";
	case NFT_JUMP:
		return "jump";
	case NFT_GOTO:
		return "goto";
	default:
		return (s->verdict & NF_VERDICT_MASK) == NF_QUEUE ? "queue" : "stolen";
	}
}

static const char *hook_name(const struct step *s)
{
	static const char *const names[] = {
		[NF_INET_PRE_ROUTING] = "prerouting",   [NF_INET_LOCAL_IN] = "input",
		[NF_INET_FORWARD] = "forward",          [NF_INET_LOCAL_OUT] = "output",
		[NF_INET_POST_ROUTING] = "postrouting",
	};

	return s->at_hook && s->hook < ARRAY_LEN(names) ? names[s->hook] : "";
}

static void tell_step(const struct step *s, struct strbuf *out)
{
	if (s->at_hook)
		strbuf_printf(out, "  %-11s %5d", hook_name(s), s->priority);
	else
		strbuf_printf(out, "  %17s", "");
	strbuf_printf(out, "  %s %s %s: ", step_family_name(s->family), s->table, s->chain);
	if (s->kind == STEP_POLICY)
		strbuf_puts(out, "policy ");
	strbuf_puts(out, verdict_word(s));
	if (s->position > 0)
		strbuf_printf(out, ", rule %u", s->position);
	if (s->kind == STEP_RULE)
		strbuf_printf(out, " (handle %" PRIu64 ")", s->handle);
	if (s->comment[0] != '\0') {
		strbuf_putc(out, ' ');
		strbuf_put_quoted(out, s->comment, strlen(s->comment));
	}
	strbuf_putc(out, '\n');
}

void explain_tell_verdict(const struct probe *p, enum verdict verdict, const struct addr *becomes,
			  const char *why, struct strbuf *out)
{
	char from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];

	strbuf_printf(out, "%s: TCP ", verdict_name(verdict));
	if (probe_is_forwarded(p))
		strbuf_printf(out, "from %s in by %s", addr_format_ip(&p->from, from, sizeof(from)),
			      p->in);
	else
		strbuf_printf(out, "of uid %u", p->uid);
	if (p->mark != 0)
		strbuf_printf(out, " with mark 0x%x", p->mark);
	strbuf_printf(out, " to %s", addr_format(&p->to, to, sizeof(to)));
	if (becomes != NULL && !addr_equal(becomes, &p->to))
		strbuf_printf(out, ", which becomes %s", addr_format(becomes, to, sizeof(to)));
	strbuf_printf(out, "\n  %s\n", why);
}

static void explain_tell(const struct probe *p, const struct trace *t, const struct answer *a,
			 const char *element, struct strbuf *out)
{
	char text[768];

	explain_tell_verdict(p, a->verdict, t->caught ? &t->last_to : NULL,
			     verdict_explain(a, text, sizeof(text)), out);
	if (element[0] != '\0')
		strbuf_printf(out, "  element %s of set %s\n", element, a->by->set);
	for (size_t i = 0; i < t->n_steps; i++)
		tell_step(&t->steps[i], out);
	if (t->n_lost > 0)
		strbuf_puts(out, "  and more that is lost\n");
}

static void put_step(struct json *j, const struct step *s)
{
	char table[TRACE_NAME_MAX + 16];

	snprintf(table, sizeof(table), "%s %s", step_family_name(s->family), s->table);
	json_object_begin(j, NULL);
	if (s->at_hook) {
		json_string(j, "hook", hook_name(s));
		json_int(j, "priority", s->priority);
	}
	json_string(j, "table", table);
	json_string(j, "chain", s->chain);
	json_bool(j, "ours", step_is_ours(s));
	if (s->kind == STEP_RULE) {
		json_uint(j, "handle", s->handle);
		if (s->position > 0)
			json_uint(j, "position", s->position);
		json_string(j, "rule", s->comment);
	} else if (s->kind == STEP_POLICY) {
		json_bool(j, "policy", true);
	}
	json_string(j, "verdict", verdict_word(s));
	json_object_end(j);
}

static void put_addr(struct json *j, const char *key, const struct addr *a, bool with_port)
{
	char text[ADDR_TEXT_MAX];

	json_string(j, key,
		    with_port ? addr_format(a, text, sizeof(text))
			      : addr_format_ip(a, text, sizeof(text)));
}

void explain_put_verdict(const struct probe *p, enum verdict verdict, const struct addr *becomes,
			 const char *why, const char *rule, struct json *j)
{
	put_addr(j, "to", &p->to, true);
	if (probe_is_forwarded(p)) {
		json_string(j, "in", p->in);
		put_addr(j, "from", &p->from, false);
	} else {
		json_uint(j, "uid", p->uid);
		json_uint(j, "mark", p->mark);
	}
	json_string(j, "verdict", verdict_name(verdict));
	json_bool(j, "taken", verdict == VERDICT_TAKEN);
	json_string(j, "why", why);
	json_string(j, "rule", rule);
	if (becomes != NULL)
		put_addr(j, "becomes", becomes, true);
}

static void explain_put_json(const struct probe *p, const struct trace *t, const struct answer *a,
			     const char *element, struct json *j)
{
	char text[768];

	explain_put_verdict(p, a->verdict, t->caught ? &t->last_to : NULL,
			    verdict_explain(a, text, sizeof(text)),
			    a->by != NULL ? a->by->comment : "", j);
	if (element[0] != '\0') {
		json_string(j, "set", a->by->set);
		json_string(j, "element", element);
	}
	json_array_begin(j, "path");
	for (size_t i = 0; i < t->n_steps; i++)
		put_step(j, &t->steps[i]);
	json_array_end(j);
	json_uint(j, "lost", t->n_lost);
}

/* What the command line means. Returns an exit code. */
static int explain_resolve(const struct args *a, struct probe *p, struct report *r)
{
	*p = (struct probe){.fd = -1, .uid = geteuid(), .mark = a->probe_mark};
	if (a->n_words == 0) {
		diag_set(&r->error, EINVAL, NULL, 0, "where to? give ADDRESS:PORT");
		return EX_USAGE;
	}
	if (addr_parse_endpoint(&p->to, a->words[0]) < 0 || p->to.port == 0) {
		diag_set(&r->error, EINVAL, NULL, 0,
			 "\"%s\" is not ADDRESS:PORT, such as 192.0.2.1:443 or [2001:db8::1]:443",
			 a->words[0]);
		return EX_USAGE;
	}
	if ((a->probe_in == NULL) != (a->probe_from == NULL)) {
		diag_set(&r->error, EINVAL, NULL, 0, "--in and --from go together");
		return EX_USAGE;
	}
	if (a->probe_in != NULL && (a->probe_user != NULL || a->probe_mark != 0)) {
		diag_set(
			&r->error, EINVAL, NULL, 0,
			"a forwarded flow has no user and no mark of ours: --uid and --mark do not "
			"go with --in");
		return EX_USAGE;
	}
	if (a->probe_from != NULL &&
	    (addr_parse(&p->from, a->probe_from) < 0 || p->from.family != p->to.family)) {
		diag_set(&r->error, EINVAL, NULL, 0, "--from \"%s\" is not an %s address",
			 a->probe_from, p->to.family == AF_INET ? "IPv4" : "IPv6");
		return EX_USAGE;
	}
	if (a->probe_in != NULL && resolve_interface(p->in, a->probe_in, &r->error) < 0) {
		diag_set(&r->error, ENODEV, NULL, 0, "--in %s: no such interface", a->probe_in);
		return EXIT_FAILURE;
	}
	if (a->probe_user != NULL) {
		int err = resolve_user(&p->uid, a->probe_user, &r->error);

		if (err < 0)
			return err == -EINVAL ? EX_USAGE : EX_CONFIG;
	}
	return 0;
}

/* "" where the rule that decided looks no destination up. */
static void explain_find_element(struct kernel *k, const struct probe *p, const struct answer *a,
				 char *out, size_t cap)
{
	const char *set = a->by != NULL && step_is_ours(a->by) ? a->by->set : "";
	size_t len = strlen(set);

	out[0] = '\0';
	/* Our sets of addresses end in the number of their family. */
	if (len > 0 && set[len - 1] == (p->to.family == AF_INET ? '4' : '6') &&
	    lookup_element(k, set, &p->to, out, cap) < 0)
		out[0] = '\0';
}

static int explain_with(struct kernel *k, struct probe *p, struct report *r)
{
	struct trace t = {.sock = NULL};
	int send_err = 0, err = 0;
	char element[LOOKUP_TEXT_MAX];
	struct answer answer;

	if (err == 0)
		err = trace_probe(&t, p, CAGE_ARRIVE, &send_err, &r->error);
	if (err == 0)
		err = trace_name(&t, k, &r->error);
	if (err == 0) {
		explain_warn_legacy(r);
		answer = verdict_of(&t, p, send_err);
		explain_find_element(k, p, &answer, element, sizeof(element));
		explain_tell(p, &t, &answer, element, &r->text);
		explain_put_json(p, &t, &answer, element, &r->json);
	}
	trace_close(&t);
	return report_exit_code(err);
}

int explain_need_installed(struct kernel *k, struct report *r)
{
	struct have have;
	int err = have_read(k, &have, &r->error);

	if (err == -ERESTART) /* somebody installs at this moment */
		return 0;
	if (err < 0)
		return report_exit_code(err);
	if (have.ours)
		return 0;
	diag_set(&r->error, ENOENT, NULL, 0, "not installed: there is no table %s of ours",
		 MODEL_TABLE_TEXT);
	return EXIT_NOT_INSTALLED;
}

int explain_run(const struct args *a, struct report *r)
{
	struct kernel k;
	struct probe p;
	int code = explain_resolve(a, &p, r), err;

	if (code != 0)
		return code;
	err = kernel_open(&k, &r->error);
	if (iptables_is_used(&k, err, REDIRECT_BACKEND_AUTO, r)) {
		kernel_close(&k);
		return iptables_explain_run(&p, r);
	}
	if (err < 0)
		return report_exit_code(err);
	code = explain_need_installed(&k, r);
	if (code == 0)
		code = explain_with(&k, &p, r);
	kernel_close(&k);
	return code;
}
