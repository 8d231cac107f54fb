/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the commands tell where the iptables backend did the work.
 */
#include "rulemgr/command.h"
#include "rulemgr/have.h"

/* Whether `install` is for iptables: by the option, or because the question to nf_tables failed with `nft`
 * (0, or a negative errno). */
bool iptables_is_chosen(enum redirect_backend wanted, int nft);

/* For a command about what is installed: whether that is rules of iptables. So it is where they are chosen, and
 * where `backend` leaves it open and only they are there. `nft`: 0 with `k` open, or a negative errno. */
bool iptables_is_used(struct kernel *k, int nft, enum redirect_backend wanted, struct report *r);

/* For a command that works by nf_tables alone: an exit code other than 0 in that case, and `text` as the error. */
int iptables_refuse(struct kernel *k, int nft, enum redirect_backend wanted, const char *text,
		    struct report *r);

/* For `install` by nf_tables: an exit code other than 0 where rules of ours are there by iptables. `again`: what cannot
 * be told has been said. */
int iptables_refuse_beside(bool again, struct report *r);

/* `w` has been checked against this host. With mode tproxy it also makes the rules and routes of the
 * routing tables. The exit code. */
int iptables_install_run(const struct args *a, const struct want *w, struct report *r);

/* For those who look for live flows: what they want to know, `have` being zero before. */
struct iptables_have;
void iptables_as_have(const struct iptables_have *from, struct have *have);
/* The same, of what is there now. 0, or a negative errno with `d` filled; where iptables is not installed,
 * nothing is there. */
int iptables_read_have(struct have *have, struct diag *d);

/* For `flush` where there are none: what a probe that was killed has left behind goes. */
void iptables_sweep_run(const struct args *a, struct report *r);

/* `test` where rules of iptables are installed, and the one question of `check`: they are there (0), or why not. Both
 * exit codes. (iptables_explain.c) */
struct probe;
int iptables_explain_run(struct probe *p, struct report *r);
int iptables_need_installed(struct report *r);

/* `status` and `diff` about rules of iptables; the exit code. (iptables_status.c) */
int iptables_status_run(const struct args *a, struct report *r);
int iptables_diff_run(const struct args *a, struct report *r);
/* One of the differences: a line for a person, and an object. */
struct iptables_line;
void iptables_difference_format(int family, bool missing, const struct iptables_line *l,
				struct strbuf *out);
void iptables_difference_put(int family, bool missing, const struct iptables_line *l,
			     struct json *j);

/* `watch` for rules of iptables; the exit code. (iptables_watch.c) */
int iptables_watch_run(const struct args *a, struct report *r);
