/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What install has been asked for, for a person and as members of an object: the options that are not the default,
 * and the files that were read. The backends share it.
 */
#include "policy/json.h"
#include "rulemgr/want.h"

/* Lines such as "  share = 5", of what differs from the defaults only. */
void want_tell(const struct want *w, const struct conf *c, struct strbuf *out);
/* The same, of all. */
void want_put_json(const struct want *w, const struct conf *c, struct json *j);
