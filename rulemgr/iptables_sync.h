/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The iptables backend: what the commands do where iptables is used. IPv4 and IPv6 are two programs and
 * every table is a commit of its own, so a change that fails half-way is taken back before it returns;
 * where the process is killed half-way, the next install heals it. Blocking; one thread.
 */
#include "rulemgr/iptables.h"
#include "rulemgr/iptables_text.h"
#include "rulemgr/iptables_trial.h"
#include "rulemgr/listeners.h"

#define IPTABLES_NOTES 4

struct iptables_result {
	bool present;                      /* rules of ours were there before */
	bool family[LISTENERS_FAMILIES];   /* installed, or removed */
	struct diag notes[IPTABLES_NOTES]; /* what the operator should know: a family left out */
	size_t n_notes;
};

/* What the host has. iptables_have_free() ends it, and an all-zero one is fine. */
struct iptables_have {
	struct iptables_text text[LISTENERS_FAMILIES];
	bool usable[LISTENERS_FAMILIES]; /* the host has the family and the programs */
	const char *by;                  /* which programs read it, and are to change it */
	bool present;                    /* something of ours is there */
	bool paused;                     /* those that decide are */
	struct iptables_trial trial;
	bool tried;                      /* the rules on trial decide, as it was read */
	uint16_t ports[MODEL_PORTS_MAX]; /* where its rules redirect to, or those before it did */
	size_t n_ports;
};

/* By the programs of a variant where those that PATH has under the plain names know nothing of ours, and that variant
 * does. 0, or a negative errno with `d` filled. */
int iptables_read(struct iptables_have *have, struct diag *d);
void iptables_have_free(struct iptables_have *have);
/* Whether rules of ours are installed for the family, beside what is kept for its live flows. */
bool iptables_has_family(const struct iptables_have *have, int family);

/* Calls `fn` for all that differs from what is wanted, of a trial in the rules that decide; returns how many lines that are, or -ENOMEM. Families
 * that the host lacks do not count. */
typedef void iptables_differs_fn(void *ctx, int family, bool missing,
				 const struct iptables_line *l);
int iptables_compare(const struct iptables_have *have, const struct want *w,
		     iptables_differs_fn *fn, void *ctx);

/* The same for what is wanted as text, one of each family. */
int iptables_compare_texts(const struct iptables_have *have, const struct iptables_text *want,
			   iptables_differs_fn *fn, void *ctx);

/* A change that is made of what is there: as often as somebody else changes it meanwhile. `build` fills the targets
 * of all families; 0; 1: there is nothing to do; or a negative errno with `d` filled, and nothing is changed. */
struct iptables_change {
	int (*build)(void *ctx, const struct iptables_have *have, struct iptables_text *targets,
		     struct diag *d);
	void *ctx;
	const int
		*lock; /* of lock_take(), which the caller has around it; NULL: it is taken here */
	bool silent; /* a watcher puts back what somebody meant: no other watcher is to take it for meant */
};

/* *present: something was there before. The errors of iptables_install(), and those of `build`. */
int iptables_change(const struct iptables_change *c, bool dry_run, bool *present, struct diag *d);

/* For a person, beside what has become of it. */
void iptables_note(struct iptables_result *result, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Says so where another variant is used than PATH has. */
void iptables_note_variant(const struct iptables_have *have, struct iptables_result *result);

/* What is to be there for `w`, and of which families. 0, or a negative errno with `d` filled. */
int iptables_targets(const struct want *w, struct iptables_text *targets,
		     struct iptables_result *result, struct diag *d);

/* What is to be installed, and how. */
struct iptables_request {
	const struct want *want;
	bool dry_run;    /* the text is checked by iptables-restore --test */
	bool force;      /* also where that cuts live flows */
	const int *lock; /* as in struct iptables_change */
};

/* Installs or replaces. On failure everything is as it was before, or `d` says what is not. 0; -EBUSY: others hold
 * the lock, or change our rules again and again; -EEXIST: live flows would be cut; -EPERM, -EOPNOTSUPP, -EINVAL,
 * -EIO. */
int iptables_install(const struct iptables_request *q, struct iptables_result *result,
		     struct diag *d);

/* Removes all that is ours. Live connections that are redirected end with it: see iptables_pause().
 * `paused_only`: -ECANCELED if the rules take new flows. */
int iptables_flush(bool dry_run, bool paused_only, struct iptables_result *result, struct diag *d);

/* Removes what a probe has left behind where no rules of ours are; *found: there was something. 0, or a negative errno
 * with `d` filled. */
int iptables_sweep(bool dry_run, bool *found, struct diag *d);

/* New flows go direct from now on, live ones go on as they are; until the next install or flush. -ENOENT
 * where nothing is installed. */
int iptables_pause(struct diag *d);

/* Live exceptions (iptables_bypass.c). Adds one in every table that has the chain; `dry_run`: has it checked by iptables-restore
 * --test. 0; -EEXIST: it is there already (and stays as it is); -ENOENT: nothing is installed for its family. */
int iptables_bypass_add(const struct prefix *p, const char *comment, bool dry_run, struct diag *d);
/* Removes it. -ENOENT as above; -ESRCH: it is not there. */
int iptables_bypass_del(const struct prefix *p, bool dry_run, struct diag *d);
/* Calls `fn` for each live exception: `match` is "-d PREFIX" or whatever somebody has put there. */
typedef void iptables_bypass_fn(void *ctx, int family, const char *match, const char *comment);
void iptables_bypass_list(const struct iptables_have *have, iptables_bypass_fn *fn, void *ctx);
