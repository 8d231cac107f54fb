/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the two commands that send probes share.
 */
#include "rulemgr/command.h"
#include "rulemgr/kernel.h"
#include "rulemgr/verdict.h"

/* 0 where our table is installed, else an exit code with the report's error filled. */
int explain_need_installed(struct kernel *k, struct report *r);

/* The first two lines about a probe, and the members of the object that they stand for. `becomes` NULL: not known. */
void explain_tell_verdict(const struct probe *p, enum verdict verdict, const struct addr *becomes,
			  const char *why, struct strbuf *out);
void explain_put_verdict(const struct probe *p, enum verdict verdict, const struct addr *becomes,
			 const char *why, const char *rule, struct json *j);
