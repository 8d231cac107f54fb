/* SPDX-License-Identifier: MIT */
#include "daemon/core/priv.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int priv_find(const char *user, struct priv_user *u, struct diag *d)
{
	const struct passwd *pw;

	*u = (struct priv_user){.change = geteuid() == 0 && strcmp(user, "root") != 0};
	if (!u->change)
		return 0;
	pw = getpwnam(user);
	if (pw == NULL)
		return diag_set(
			d, ENOENT, NULL, 0,
			"user \"%s\" does not exist; create it with `" USERADD_COMMAND
			" %s`, or write user = \"root\" into the configuration to stay root",
			user, user);
	u->uid = pw->pw_uid;
	u->gid = pw->pw_gid;
	return 0;
}

int priv_drop(const struct priv_user *u, struct diag *d)
{
	int err;

	if (!u->change)
		return 0;
	capng_clear(CAPNG_SELECT_BOTH);
	capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_RAW);
	/* libcap-ng knows the order in which ids, groups and capabilities must change. */
	err = capng_change_id((int)u->uid, (int)u->gid, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
	if (err != 0)
		return diag_set(d, EPERM, NULL, 0, "cannot become uid %u (libcap-ng error %d)",
				u->uid, err);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return diag_set(d, EPERM, NULL, 0, "cannot set no_new_privs: %s", strerror(errno));
	return 0;
}

int priv_may_read(const char *user, const char *file, struct diag *d)
{
	if (access(file, R_OK) == 0 || errno != EACCES)
		return 0;
	return diag_set(d, EACCES, NULL, 0,
			"user \"%s\" may not read %s, so SIGHUP cannot either; give it the group: "
			"chgrp %s %s && chmod 640 %s",
			user, file, user, file, file);
}
