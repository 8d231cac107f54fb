/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "policy/conf_sections.h"

static int auth_error(struct diag *d, const char *file, int line, const char *why)
{
	return diag_set(d, EINVAL, file, line, "%s", why);
}

/* One part of it, of any bytes that are no control bytes: those are a slip. */
static int auth_part(char out[256], const char *text, size_t n, const char *file, struct diag *d)
{
	if (n > 255)
		return auth_error(d, file, 1, "user name and password may have 255 bytes each");
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return auth_error(
				d, file, 1,
				"contains a control byte (a line end of another system?)");
	}
	memcpy(out, text, n);
	out[n] = '\0';
	return 0;
}

int conf_parse_auth(struct proxy_url *u, const char *text, size_t n, const char *file,
		    struct diag *d)
{
	size_t len = n > 0 && text[n - 1] == '\n' ? n - 1 : n;
	const char *colon = len > 0 ? memchr(text, ':', len) : NULL;
	struct proxy_url filled = *u;
	struct diag why;
	int r;

	if (len > 0 && memchr(text, '\n', len) != NULL)
		return auth_error(d, file, 2, "more than one line; wanted is \"user:password\"");
	if (colon == NULL && (len == 0 || u->scheme != PROXY_SOCKS4A))
		return auth_error(d, file, 1, "wanted is one line \"user:password\"");
	if (colon == text)
		return auth_error(d, file, 1, "the user name is empty");
	r = auth_part(filled.user, text, colon != NULL ? (size_t)(colon - text) : len, file, d);
	if (r == 0 && colon != NULL)
		r = auth_part(filled.password, colon + 1, len - (size_t)(colon - text) - 1, file,
			      d);
	if (r < 0)
		return r;
	if (proxy_url_check_auth(&filled, &why) < 0)
		return auth_error(d, file, 1, why.text);
	*u = filled;
	return 0;
}
