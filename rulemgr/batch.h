/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One nf_tables transaction: messages that the kernel carries out all or none. Each message
 * remembers which part of the model it came from, so that an error names that part. One owner; the
 * model that the origins point into must outlive the batch.
 */
#include "rulemgr/model.h"
#include "rulemgr/kernel.h"

/* What a message is about; the innermost that is set counts, none is the table. */
struct origin {
	const struct set *set;
	const struct element *element; /* of `set`: the first of those in the message */
	const struct chain *chain;
	const struct rule *rule; /* of `chain` */
};

struct batch;

/* A batch that holds only if the ruleset is still of this generation (kernel 4.12). NULL: no
 * memory. */
struct batch *batch_new(uint32_t generation);
void batch_free(struct batch *b);

/* Begins the next message, of at most KERNEL_MESSAGE_MAX bytes; batch_end_message() takes it in.
 * `type` is an nf_tables message. */
struct nlmsghdr *batch_message(struct batch *b, uint16_t type, uint16_t flags,
			       struct origin origin);
/* 0 or -ENOMEM. */
int batch_end_message(struct batch *b);

/* Sends all of it. Without `commit` the kernel checks every message and changes nothing.
 * 0; -ERESTART: somebody changed the ruleset in between, read it again; -EOPNOTSUPP: the kernel
 * lacks what a part needs; -EPERM, ...: `d` says why, except for -ERESTART. After an error nothing is
 * changed; in the one case where that is not known, `d` says so. */
int batch_send(struct batch *b, struct kernel *k, bool commit, struct diag *d);
