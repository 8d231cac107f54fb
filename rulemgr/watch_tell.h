/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The lines of watch: one for each thing that happened, for a person or as a JSON object, written at once.
 */
#include "rulemgr/diff.h"
#include "rulemgr/events.h"
#include "rulemgr/routes.h"

/* Processes that one line names, and differences that one for a person does. */
#define CULPRITS_MAX   4
#define TOLD_DIFFS_MAX 4

/* Who has changed the table since it was last looked at. */
struct culprits {
	struct event list[CULPRITS_MAX];
	size_t n;
	bool more; /* there are others, or nobody knows */
};

/* Each process once. */
void culprits_add(struct culprits *c, const struct event *event);

/* `event` is the word in JSON, `text` the beginning of the line for a person; who did it and what differs in the table
 * and in the ip rules and routes (NULL or empty: not said) follow it. 0, or a negative errno: nobody reads them any more. */
int watch_tell(bool as_json, const char *event, const char *text, const struct culprits *by,
	       const struct diff *diff, const struct routes_change *routes);

/* The same of rules of iptables. `differences` as a text that follows (NULL: none), and `put` adds what else the
 * object has. */
int watch_tell_rules(bool as_json, const char *event, const char *text, const char *differences,
		     void (*put)(void *ctx, struct json *j), void *ctx);
