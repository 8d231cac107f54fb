/* SPDX-License-Identifier: MIT */
#include "rulemgr/args.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>

#include "policy/mark.h"

enum flag_id { FLAG_PORT, FLAG_UID, FLAG_MARK, FLAG_GATEWAY, FLAG_DRY_RUN, FLAG_JSON, FLAG_HELP };

/* clang-format off */
#define ROW_DRY_RUN {"dry-run", 'n', NULL, "let the kernel check all, change nothing", FLAG_DRY_RUN}
#define ROW_JSON {"json", 'j', NULL, "result and errors as one JSON object", FLAG_JSON}
#define ROW_HELP {"help", 'h', NULL, "this text", FLAG_HELP}
/* clang-format on */

const struct flag args_install_flags[] = {
	{"port", 'p', "PORT", "where transocksd listens (default 1081)", FLAG_PORT},
	{"uid", 'u', "USER",
	 "name or number of the daemons' user, whose flows go direct (default transocks)",
	 FLAG_UID},
	{"mark", 'm', "VALUE/MASK",
	 "mark of the daemons' flows, which go direct (default " DEFAULT_MARK_TEXT ")", FLAG_MARK},
	{"gateway", 'g', "IF", "also take the flows forwarded from this interface; may be repeated",
	 FLAG_GATEWAY},
	ROW_DRY_RUN,
	ROW_JSON,
	ROW_HELP,
	{.name = NULL},
};

const struct flag args_flush_flags[] = {
	ROW_DRY_RUN,
	ROW_JSON,
	ROW_HELP,
	{.name = NULL},
};

static int args_set_mark(struct mark *mark, const char *text, struct diag *d)
{
	const char *why;

	if (mark_parse(mark, text, &why) == 0)
		return 0;
	return diag_set(d, EINVAL, NULL, 0, "--mark \"%s\" %s", text, why);
}

static int args_add_gateway(struct args *a, const char *name, struct diag *d)
{
	if (a->n_gateways == WANT_GATEWAYS_MAX)
		return diag_set(d, EINVAL, NULL, 0, "--gateway: at most %d interfaces",
				WANT_GATEWAYS_MAX);
	a->gateways[a->n_gateways++] = name;
	return 0;
}

static int args_set(void *ctx, int id, const char *value, struct diag *d)
{
	struct args *a = ctx;

	switch ((enum flag_id)id) {
	case FLAG_PORT:
		if (port_parse(&a->port, value) < 0 || a->port == 0)
			return diag_set(d, EINVAL, NULL, 0, "--port %s: not a port 1..65535",
					value);
		return 0;
	case FLAG_UID:
		a->user = value;
		return 0;
	case FLAG_MARK:
		return args_set_mark(&a->mark, value, d);
	case FLAG_GATEWAY:
		return args_add_gateway(a, value, d);
	case FLAG_DRY_RUN:
		a->dry_run = true;
		return 0;
	case FLAG_JSON:
		a->json = true;
		return 0;
	case FLAG_HELP:
		a->help = true;
		return 0;
	}
	BUG_ON(true);
}

int args_parse(struct args *a, const struct flag *flags, int argc, char **argv, struct diag *d)
{
	int first_word, r;

	*a = (struct args){.port = DEFAULT_TRANSOCKS_PORT,
			   .mark = {DEFAULT_MARK_VALUE, DEFAULT_MARK_MASK}};
	r = cmdline_parse(flags, argc, argv, &first_word, args_set, a, d);
	if (r == 0 && first_word < argc)
		r = diag_set(d, EINVAL, NULL, 0, "unexpected word \"%s\"", argv[first_word]);
	return r;
}

int args_find_uid(uid_t *uid, const char *user, struct diag *d)
{
	const char *name = user != NULL ? user : DEFAULT_USER;
	const struct passwd *entry;
	unsigned long number;

	if (name[strspn(name, "0123456789")] == '\0') {
		errno = 0;
		number = strtoul(name, NULL, 10);
		/* The largest stands for "no user" in the kernel. */
		if (*name == '\0' || errno != 0 || number >= UINT32_MAX)
			return diag_set(d, EINVAL, NULL, 0, "--uid \"%s\": not a uid", name);
		*uid = (uid_t)number;
		return 0;
	}
	entry = getpwnam(name);
	if (entry != NULL) {
		*uid = entry->pw_uid;
		return 0;
	}
	if (user != NULL)
		return diag_set(d, ENOENT, NULL, 0,
				"--uid %s: no such user; give the name or number of the user that "
				"transocksd runs as",
				name);
	return diag_set(d, ENOENT, NULL, 0,
			"no user \"%s\" on this host: name the user that transocksd runs as with "
			"--uid NAME, or make it: " USERADD_COMMAND " %s",
			name, name);
}

int args_find_interface(char out[IFNAMSIZ], const char *name, struct diag *d)
{
	char found[IFNAMSIZ] = "";
	unsigned index = if_nametoindex(name);

	/* There and back again: an alternative name finds the interface, but no rule sees it. */
	if (index == 0 || if_indextoname(index, found) == NULL)
		return diag_set(d, ENODEV, NULL, 0, "--gateway %s: no such interface", name);
	memcpy(out, found, sizeof(found));
	return 0;
}
