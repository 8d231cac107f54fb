/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the kernel tells of changes to our table: the messages of group NFNLGRP_NFTABLES, of which the last of each
 * transaction names who made it (kernel 4.13). A table that vanishes with the socket that owns it is not
 * announced. One owner, one thread.
 */
#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/diag.h"

#define EVENT_NAME_MAX 16 /* bytes with the NUL; as the kernel keeps the name of a process */

/* A transaction that changed our table. */
struct event {
	uint32_t generation;       /* that it began */
	uint32_t pid;              /* as the first pid namespace counts */
	char name[EVENT_NAME_MAX]; /* of the process; printable; "": not said */
};

struct events {
	struct mnl_socket *sock;
	char *buffer;
	bool touched; /* the transaction of which messages come has changed our table */
};

/* 0 or a negative errno with `d` filled. */
int events_open(struct events *e, struct diag *d);
/* A zeroed one is fine. */
void events_close(struct events *e);
int events_fd(const struct events *e);

typedef void event_fn(void *ctx, const struct event *event);

/* Reads all that is there. 0; -ENOBUFS: some are lost, call again; another negative errno. */
int events_read(struct events *e, event_fn *fn, void *ctx);
