/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the kernel says about the way of one probe through the rules of all tables (nftrace), step
 * by step. iptables-legacy rules are not part of it. One owner, one thread.
 */
#include "rulemgr/cage.h"
#include "rulemgr/flows.h"
#include "rulemgr/model.h"

/* NFT_NAME_MAXLEN of the kernel. */
#define TRACE_NAME_MAX 256
/* More than that are counted as lost. */
#define TRACE_STEPS_MAX 1000

enum step_kind {
	STEP_RULE,   /* a rule matched */
	STEP_RETURN, /* the end of a chain that was jumped to */
	STEP_POLICY  /* the end of a chain at a hook */
};

/* What a rule does to a connection beside its verdict, as far as we need to know. */
enum step_effect { EFFECT_NONE, EFFECT_REDIRECT, EFFECT_TPROXY, EFFECT_MARK, EFFECT_REJECT };

struct step {
	enum step_kind kind;
	uint8_t family; /* of the table: NFPROTO_* */
	char table[TRACE_NAME_MAX], chain[TRACE_NAME_MAX];
	uint64_t handle;    /* of the rule */
	int32_t verdict;    /* NF_ACCEPT, NF_DROP, NFT_RETURN, NFT_CONTINUE, ... */
	bool has_addresses; /* at the first step of each chain at a hook */
	struct addr from, to;
	/* From the ruleset, by trace_name(); the rest stays empty for a rule that is gone. */
	unsigned position; /* of the rule in its chain, 1..; 0: not known */
	char comment[MODEL_COMMENT_MAX];
	enum step_effect effect;
	char set[TRACE_NAME_MAX]; /* that it looks an address up in; "": none */
	bool at_hook;             /* the chain is at a hook: `hook` and `priority` hold */
	uint32_t hook;            /* enum nf_inet_hooks */
	int32_t priority;
};

struct trace {
	struct mnl_socket *sock;
	uint32_t id; /* of the probe's packet, from the first step in our own table */
	bool has_id;
	const struct cage *cage;
	struct step *steps; /* in order; without those of the cage's own table */
	size_t n_steps, cap_steps;
	size_t n_lost;
	/* The first rule of this host that switches traces off, by trace_name(); without a table: none. */
	struct step hidden_by;
	bool passed;         /* it went on over the loopback interface, in sight */
	bool gap;            /* it came in there without: somebody had switched its trace off */
	struct flow tracked; /* as conntrack first saw it; no family: not known */
	/* Where it stood when it reached the end of its cage. */
	bool caught;
	struct addr last_from, last_to;
};

/* Begins to listen; before the cage is opened. 0, or a negative errno with `d` filled. */
int trace_open(struct trace *t, struct diag *d);
/* A zeroed trace is fine. */
void trace_close(struct trace *t);

/* Takes in what there is about the probe of `cage`, until the probe has ended or `timeout_ms` are
 * over. 0 or a negative errno. */
int trace_collect(struct trace *t, const struct cage *cage, int timeout_ms);

/* All of it for a probe that must reach nobody: opens it in a cage with this end, sends it, collects, and
 * takes both away. *send_err is what probe_send() returned. 0, or a negative errno with `d` filled; trace_close()
 * in any case. */
int trace_probe(struct trace *t, struct probe *p, enum cage_end end, int *send_err, struct diag *d);

/* Whether the last step ended the probe. */
bool step_is_end(const struct step *s);
/* It is of our own table, not of a foreign one. */
bool step_is_ours(const struct step *s);

/* Gives each step its comment, effect and place, from the ruleset as it is now, and finds `hidden_by`. 0, or a negative
 * errno with `d` filled. */
int trace_name(struct trace *t, struct kernel *k, struct diag *d);

/* The word that nft(8) has for a table family: "inet", "ip". */
const char *step_family_name(uint8_t family);
