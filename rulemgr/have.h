/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the kernel has under the name of our table. struct have is a value; a model read along with it is
 * owned by the caller.
 */
#include "rulemgr/kernel.h"
#include "rulemgr/model.h"
#include "rulemgr/ports.h"

struct have {
	uint32_t generation; /* of the ruleset when reading began */
	bool present;
	bool ours;                       /* it carries our comment */
	char comment[MODEL_COMMENT_MAX]; /* "" if it has none */
	uint32_t
		owner; /* netlink port whose socket alone may change it, and with which it vanishes; 0: none */
	struct ports ports; /* where its rules redirect to, or those before it did */
	bool transparent;   /* some of its rules hand flows over by TPROXY */
};

/* Reads the table. 0; -ERESTART if it changed meanwhile; the kernel's error with `d` filled. */
int have_read(struct kernel *k, struct have *have, struct diag *d);

/* The same, and all that is in it, ours or not, as it was at one moment. *m is written only on success and
 * then owned by the caller (model_free); empty if there is no table. */
int have_read_model(struct kernel *k, struct have *have, struct model *m, struct diag *d);
/* The same without the sets, of which there may be so much that somebody changes the ruleset meanwhile every
 * time. */
int have_read_chains(struct kernel *k, struct have *have, struct model *m, struct diag *d);
