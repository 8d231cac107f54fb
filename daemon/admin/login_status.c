/* SPDX-License-Identifier: MIT */
#include "daemon/admin/login_status.h"

#include <inttypes.h>

#include "daemon/core/shared.h"

void login_status_json(const struct logins *ls, struct json *j)
{
	json_object_begin(j, "logins");
#define LOGIN_STATUS_JSON(name, help, from) json_uint(j, #name, SHARED_GET(from));
	LOGIN_STATUS_TABLE(LOGIN_STATUS_JSON)
#undef LOGIN_STATUS_JSON
	json_object_end(j);
}

void login_status_text(const struct logins *ls, struct strbuf *out)
{
	strbuf_puts(out, "\nlogins");
#define LOGIN_STATUS_NAME(name, help, from) strbuf_printf(out, "  %10s", #name);
	LOGIN_STATUS_TABLE(LOGIN_STATUS_NAME)
#undef LOGIN_STATUS_NAME
	strbuf_puts(out, "\n      ");
#define LOGIN_STATUS_TEXT(name, help, from) strbuf_printf(out, "  %10" PRIu64, SHARED_GET(from));
	LOGIN_STATUS_TABLE(LOGIN_STATUS_TEXT)
#undef LOGIN_STATUS_TEXT
	strbuf_putc(out, '\n');
}
