/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Writes JSON (RFC 8259) into a strbuf, compact, commas placed by itself. Inside an object every
 * call names its key; inside an array and at the top `key` is NULL. One owner, one thread.
 */
#include <stdint.h>

#include "policy/strbuf.h"

struct json {
	struct strbuf *out;
	bool comma; /* the next value needs one before it */
};

void json_init(struct json *j, struct strbuf *out);

void json_object_begin(struct json *j, const char *key);
void json_object_end(struct json *j);
void json_array_begin(struct json *j, const char *key);
void json_array_end(struct json *j);

void json_string(struct json *j, const char *key, const char *value);
void json_string_n(struct json *j, const char *key, const char *bytes, size_t n);
void json_int(struct json *j, const char *key, int64_t value);
void json_uint(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);
