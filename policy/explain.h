/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a configuration would do with one flow, in words: transocksd --explain. Pure; nobody is asked, so every
 * upstream is taken to be healthy, and idle.
 */
#include "policy/conf.h"
#include "policy/name.h"

/* A flow that somebody asks about. */
struct explain_flow {
	struct addr client;
	struct addr dest;            /* with its port */
	char name[NAME_MAX_LEN + 1]; /* normalised; "": not known */
};

/* "client=10.0.0.5 dest=192.0.2.1:443 name=www.example.com", in any order, with blanks between; the name may be
 * missing. 0, or -EINVAL with a reason in `d` (no file or line). */
int explain_parse(struct explain_flow *flow, const char *text, struct diag *d);

/* Appends the answer, as lines for a person or as one line of JSON. A flow tries `most_tries` upstreams at most. */
void explain_text(const struct conf *c, const struct explain_flow *flow, size_t most_tries,
		  struct strbuf *out);
void explain_json(const struct conf *c, const struct explain_flow *flow, size_t most_tries,
		  struct strbuf *out);
