/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From a roll-out by observing to rules that enforce: the rules that, put in front of one that only observes, let
 * everything go on as it did that was seen. Pure text; who has counted is daemon/.
 */
#include "policy/conf.h"
#include "policy/name.h"

/* What an observing rule matched, and how often: one row for each rule, destination and what became of the flows. */
struct suggest_row {
	size_t rule; /* in conf.rules */
	char name[NAME_MAX_LEN +
		  1];     /* normalised; "": not known or without say, and `dest` counts */
	struct addr dest; /* its port does not count */
	uint16_t port;
	enum rule_action action; /* what the flows got, from a rule behind it or from none */
	size_t group;            /* in conf.groups, of RULE_PROXY */
	uint64_t flows;
	uint64_t clients; /* addresses; 0: nobody has counted them */
};

/* Appends TOML: for each observing rule the [[rule]] tables that go in front of it, with comments for whoever pastes
 * them. What is refused behind it all the same is left out. `rows` is put in order; `c` is the configuration that the
 * indices are of; `lost` flows were seen of which no row is left. */
void suggest_text(const struct conf *c, struct suggest_row *rows, size_t n, uint64_t lost,
		  struct strbuf *out);
