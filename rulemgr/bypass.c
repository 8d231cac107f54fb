/* SPDX-License-Identifier: MIT */
#include "rulemgr/command.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>
#include <sysexits.h>

#include "policy/prefix.h"
#include "rulemgr/carry.h"
#include "rulemgr/iptables_cmd.h"
#include "rulemgr/iptables_sync.h"
#include "rulemgr/ranges.h"
#include "rulemgr/trial_sync.h"

struct edit {
	const char *text; /* the network, as it was typed */
	const char *comment;
	int family;           /* AF_INET or AF_INET6 */
	bool is_range;        /* not a network */
	struct prefix prefix; /* else */
	struct element element;
	bool already;          /* nothing to add */
	bool all;              /* the whole family is an exception now */
	struct element inside; /* already: the one that is there */
};

/* nft(8) has no way to write a quote within a comment. */
static int check_comment(const char *comment, struct diag *d)
{
	if (strlen(comment) >= MODEL_COMMENT_MAX)
		return diag_set(d, EINVAL, NULL, 0, "--comment: longer than %d bytes",
				MODEL_COMMENT_MAX - 1);
	for (const char *at = comment; *at != '\0'; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f || *at == '"' || *at == '\\')
			return diag_set(d, EINVAL, NULL, 0,
					"--comment: no quotes, backslashes or control characters");
	}
	return 0;
}

/* Somebody may have made another one under its name. */
static int check_set(const struct set *s, struct diag *d)
{
	bool four = strcmp(s->name, WANT_SET_BYPASS4) == 0;

	if (s->type == (four ? SET_IPV4 : SET_IPV6) && s->interval &&
	    (s->flags & ~(uint32_t)NFT_SET_TIMEOUT) == 0)
		return 0;
	return diag_set(
		d, EEXIST, NULL, 0,
		"set %s of table %s is not ours, and does not hold IPv%d networks: left as it "
		"is; install makes it anew, without what is in it",
		s->name, MODEL_TABLE_TEXT, four ? 4 : 6);
}

static bool element_is_same_range(const struct element *a, const struct element *b, size_t len)
{
	return memcmp(a->first, b->first, len) == 0 && memcmp(a->last, b->last, len) == 0;
}

/* What is inside a range that is there needs no second entry; the same range gets the new comment. */
static int edit_add(void *ctx, struct set *after, struct diag *d)
{
	static const uint8_t zeros[VALUE_MAX] = {0};
	struct edit *edit = ctx;
	uint8_t ones[VALUE_MAX];
	struct element *e = &edit->element;

	if (check_set(after, d) < 0)
		return -EEXIST;
	memset(ones, 0xff, sizeof(ones));
	edit->already = false;
	for (size_t i = 0; i < after->n_elements; i++) {
		struct element *there = &after->elements[i];

		if (memcmp(there->first, e->first, after->key_len) > 0 ||
		    memcmp(there->last, e->last, after->key_len) < 0)
			continue;
		if (edit->comment != NULL && element_is_same_range(there, e, after->key_len))
			memcpy(there->comment, e->comment, sizeof(there->comment));
		edit->already = true;
		edit->inside = *there;
	}
	edit->all = ranges_contain(after, zeros, ones);
	if (edit->already)
		return 0;
	if (set_add_element(after, e) < 0)
		return diag_no_memory(d);
	ranges_merge(after);
	edit->all = ranges_contain(after, zeros, ones);
	return 0;
}

static int edit_del(void *ctx, struct set *after, struct diag *d)
{
	const struct edit *edit = ctx;
	const struct element *e = &edit->element;

	if (check_set(after, d) < 0)
		return -EEXIST;
	if (!ranges_contain(after, e->first, e->last))
		return diag_set(d, ESRCH, NULL, 0,
				"%s is not among the exceptions; `bypass list` shows them",
				edit->text);
	if (ranges_subtract(after, e->first, e->last) < 0)
		return diag_no_memory(d);
	return 0;
}

/* Whose watcher was killed leaves a trial that is over behind. */
static int bypass_edit_set(struct kernel *k, const char *name, bool adds, struct edit *edit,
			   bool dry_run, struct diag *d)
{
	int err = sync_edit_set(k, name, adds ? edit_add : edit_del, edit, dry_run, d);
	size_t flows;

	if (err != -ETIME)
		return err;
	if (dry_run)
		return diag_set(d, ETIME, NULL, 0,
				"a trial is over, and what is left of it goes first: run this "
				"without --dry-run");
	err = trial_end(k, false, &flows, d);
	return err < 0 ? err : sync_edit_set(k, name, adds ? edit_add : edit_del, edit, false, d);
}

/* "11.5.1.0-11.5.255.255", as bypass list shows what is no network. 0 or -EINVAL. */
static int range_parse(const char *text, struct element *e, int *family)
{
	const char *dash = strchr(text, '-');
	char first[INET6_ADDRSTRLEN];
	size_t n = dash != NULL ? (size_t)(dash - text) : sizeof(first);

	if (n >= sizeof(first))
		return -EINVAL;
	memcpy(first, text, n);
	first[n] = '\0';
	*family = strchr(first, ':') != NULL ? AF_INET6 : AF_INET;
	if (inet_pton(*family, first, e->first) != 1 || inet_pton(*family, dash + 1, e->last) != 1)
		return -EINVAL;
	return memcmp(e->first, e->last, sizeof(e->first)) <= 0 ? 0 : -EINVAL;
}

/* Returns an exit code. */
static int edit_parse(const struct args *a, struct edit *edit, struct diag *d)
{
	if (a->comment != NULL && check_comment(a->comment, d) < 0)
		return EX_USAGE;
	if (prefix_parse(&edit->prefix, edit->text) == 0) {
		edit->family = edit->prefix.family;
		prefix_bounds(&edit->prefix, edit->element.first, edit->element.last);
	} else if (range_parse(edit->text, &edit->element, &edit->family) < 0) {
		diag_set(d, EINVAL, NULL, 0,
			 "%s is no network such as 11.0.0.0/8, 2a00::/16 or 11.1.2.3 (without bits "
			 "behind the prefix), and no range such as 11.1.2.3-11.1.2.9",
			 edit->text);
		return EX_USAGE;
	} else {
		edit->is_range = true;
	}
	snprintf(edit->element.comment, sizeof(edit->element.comment), "%s",
		 a->comment != NULL ? a->comment : "");
	return 0;
}

/* A network within another gets a rule of its own. */
static int edit_iptables(const struct args *a, bool adds, struct edit *edit, struct diag *d)
{
	const struct prefix *p = &edit->prefix;
	int err;

	if (edit->is_range)
		return diag_set(d, EOPNOTSUPP, NULL, 0,
				"%s is a range: rules of iptables take networks", edit->text);
	err = adds ? iptables_bypass_add(p, a->comment, a->dry_run, d)
		   : iptables_bypass_del(p, a->dry_run, d);
	edit->already = err == -EEXIST;
	edit->all = adds && p->len == 0;
	if (edit->already) /* that network itself, with whatever comment */
		edit->inside = edit->element;
	return err == -EEXIST ? 0 : err;
}

/* What somebody may not have meant. */
static void edit_warn(const struct edit *edit, struct report *r)
{
	const struct set s = {.type = edit->family == AF_INET ? SET_IPV4 : SET_IPV6,
			      .key_len = edit->family == AF_INET ? 4 : 16};
	char text[ELEMENT_TEXT_MAX];

	if (edit->all)
		report_warn(
			r, "every %s flow goes direct, for the exceptions are all of its addresses",
			edit->family == AF_INET ? "IPv4" : "IPv6");
	if (edit->already && edit->comment != NULL &&
	    strcmp(edit->inside.comment, edit->element.comment) != 0)
		report_warn(r, "the comment is not kept: %s is inside of %s, which has its own",
			    edit->text, element_format(&s, &edit->inside, text, sizeof(text)));
}

/* `k` NULL: by iptables. */
static int bypass_edit(struct kernel *k, const struct args *a, struct report *r)
{
	bool adds = strcmp(a->words[0], "add") == 0;
	struct edit edit = {.text = a->words[1], .comment = a->comment};
	int err, code = edit_parse(a, &edit, &r->error);

	if (code != 0)
		return code;
	if (k == NULL)
		err = edit_iptables(a, adds, &edit, &r->error);
	else
		err = bypass_edit_set(k,
				      edit.family == AF_INET ? WANT_SET_BYPASS4 : WANT_SET_BYPASS6,
				      adds, &edit, a->dry_run, &r->error);
	if (err == -ENOENT)
		return EXIT_NOT_INSTALLED;
	if (err < 0)
		return report_exit_code(err);
	json_string(&r->json, "network", edit.text);
	json_bool(&r->json, "dry_run", a->dry_run);
	if (adds)
		json_bool(&r->json, "already", edit.already);
	strbuf_printf(&r->text, "%s%s %s%s\n", a->dry_run ? "would have " : "",
		      adds ? "added" : "removed", edit.text,
		      edit.already ? ", which was there already" : "");
	edit_warn(&edit, r);
	return 0;
}

static void list_one(const char *key, const char *text, const char *comment, struct report *r)
{
	strbuf_puts(&r->text, text);
	json_object_begin(&r->json, NULL);
	json_string(&r->json, key, text);
	if (comment[0] != '\0') {
		strbuf_putc(&r->text, ' ');
		strbuf_put_quoted(&r->text, comment, strlen(comment));
		json_string(&r->json, "comment", comment);
	}
	strbuf_putc(&r->text, '\n');
	json_object_end(&r->json);
}

static void list_set(const struct set *s, struct report *r)
{
	char text[ELEMENT_TEXT_MAX];

	for (size_t i = 0; i < s->n_elements; i++)
		list_one("network", element_format(s, &s->elements[i], text, sizeof(text)),
			 s->elements[i].comment, r);
}

/* What is no network alone, somebody has put there by hand. */
static void list_iptables_one(void *ctx, int family, const char *match, const char *comment)
{
	static const char *const all[] = {"0.0.0.0/0", "::/0"};
	static const char *const whole[] = {"/32", "/128"};
	const char *key = "network";
	char text[256];
	size_t len;

	snprintf(text, sizeof(text), "%s", match[0] != '\0' ? match : all[family]);
	if (strncmp(text, "-d ", 3) == 0 && strchr(text + 3, ' ') == NULL) {
		memmove(text, text + 3, strlen(text + 3) + 1);
		len = strlen(text) - strlen(whole[family]);
		if (strlen(text) > strlen(whole[family]) && strcmp(text + len, whole[family]) == 0)
			text[len] = '\0';
	} else if (match[0] != '\0') {
		key = "match";
	}
	list_one(key, text, comment, ctx);
}

static int list_iptables(struct report *r)
{
	struct iptables_have have;
	int code = 0, err = iptables_read(&have, &r->error);

	if (err < 0)
		return report_exit_code(err);
	if (have.present) {
		json_array_begin(&r->json, "networks");
		iptables_bypass_list(&have, list_iptables_one, r);
		json_array_end(&r->json);
	} else {
		diag_set(&r->error, ENOENT, NULL, 0, "no rules of iptables are installed");
		code = EXIT_NOT_INSTALLED;
	}
	iptables_have_free(&have);
	return code;
}

static int bypass_list(struct kernel *k, struct report *r)
{
	struct have have;
	struct model m;
	int err = sync_read(k, &have, &m, &r->error);

	if (err < 0)
		return report_exit_code(err);
	err = sync_check_owner(&have, &r->error);
	if (trial_is_over(&m) && !trial_keep_previous(&m))
		have.present = false;
	if (err == 0 && !have.present)
		err = diag_set(&r->error, ENOENT, NULL, 0, MODEL_NOT_INSTALLED);
	if (err == 0) {
		json_array_begin(&r->json, "networks");
		for (size_t i = 0; i < m.n_sets; i++) {
			if (set_is_live(m.sets[i].name))
				list_set(&m.sets[i], r);
		}
		json_array_end(&r->json);
	}
	model_free(&m);
	return err == -ENOENT ? EXIT_NOT_INSTALLED : report_exit_code(err);
}

int bypass_run(const struct args *a, struct report *r)
{
	const char *verb = a->n_words > 0 ? a->words[0] : "";
	bool lists = strcmp(verb, "list") == 0;
	struct kernel k;
	int code, err;

	if ((!lists && strcmp(verb, "add") != 0 && strcmp(verb, "del") != 0) ||
	    a->n_words != (lists ? 1 : 2)) {
		diag_set(&r->error, EINVAL, NULL, 0,
			 "say \"bypass add NET\", \"bypass del NET\" or \"bypass list\"");
		return EX_USAGE;
	}
	err = kernel_open(&k, &r->error);
	if (iptables_is_used(&k, err, REDIRECT_BACKEND_AUTO, r)) {
		kernel_close(&k);
		return lists ? list_iptables(r) : bypass_edit(NULL, a, r);
	}
	if (err < 0)
		return report_exit_code(err);
	k.control = a->conf != NULL ? a->conf->control : NULL;
	code = lists ? bypass_list(&k, r) : bypass_edit(&k, a, r);
	kernel_close(&k);
	return code;
}
