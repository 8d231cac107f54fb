/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From what the operator asks for to the table that does it. Pure: no kernel, no user database.
 *
 * The order of the rules is the loop guard: the mark first, because it survives every change of
 * user, the user second, then what is local or special-purpose anyway.
 */
#include <sys/types.h>

#include "policy/conf.h"
#include "rulemgr/model.h"

/* Interfaces of one gateway. */
#define WANT_GATEWAYS_MAX 64

struct want {
	uint16_t port;    /* 1..65535, where transocksd listens */
	uid_t uid;        /* whose flows are never redirected */
	struct mark mark; /* nor flows with this mark; mask 0: no such rule */
	char gateways[WANT_GATEWAYS_MAX][IFNAMSIZ]; /* forwarded flows are taken from these */
	size_t n_gateways;
	uint16_t earlier_ports[MODEL_PORTS_MAX]; /* of tables that this one replaces */
	size_t n_earlier_ports;
};

/* Builds the table. *m is written only on success and then owned by the caller (model_free).
 * 0 or -ENOMEM. */
int want_build(const struct want *w, struct model *m);
