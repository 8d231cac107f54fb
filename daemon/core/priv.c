/* SPDX-License-Identifier: MIT */
#include "daemon/core/priv.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int priv_drop(const char *user, struct diag *d)
{
	const struct passwd *pw;
	int err;

	if (geteuid() != 0 || strcmp(user, "root") == 0)
		return 0;
	pw = getpwnam(user);
	if (pw == NULL)
		return diag_set(
			d, ENOENT, NULL, 0,
			"user \"%s\" does not exist; create it with `" USERADD_COMMAND
			" %s`, or write user = \"root\" into the configuration to stay root",
			user, user);
	capng_clear(CAPNG_SELECT_BOTH);
	capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_RAW);
	/* libcap-ng knows the order in which ids, groups and capabilities must change. */
	err = capng_change_id((int)pw->pw_uid, (int)pw->pw_gid,
			      CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
	if (err != 0)
		return diag_set(d, EPERM, NULL, 0, "cannot become user \"%s\" (libcap-ng error %d)",
				user, err);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return diag_set(d, EPERM, NULL, 0, "cannot set no_new_privs: %s", strerror(errno));
	return 0;
}
