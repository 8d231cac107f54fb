/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A connection attempt made only to be watched: a socket under the user that is asked about, or a
 * first packet that is put into an interface. It is told apart from all other flows by its source
 * port, which nobody else on this host has. One owner.
 *
 * A probe is opened before the table that holds it (cage.h): descriptors are closed in their order when
 * a process is killed, so that no probe outlives its cage.
 */
#include <net/if.h>
#include <sys/types.h>

#include "policy/addr.h"
#include "policy/diag.h"

struct probe {
	struct addr to;    /* with port */
	struct addr from;  /* forwarded: who sends it; the port is chosen by probe_open() */
	char in[IFNAMSIZ]; /* forwarded: the interface that it comes in from; else "" */
	uid_t uid;         /* of this host: whose socket it is */
	uint32_t mark;     /* of this host: its SO_MARK, 0: none */
	unsigned in_index; /* of `in` */
	uint32_t sequence; /* of its first packet, from probe_open() on: random, not 0 */
	int fd;            /* the socket, or the device that feeds `in` */
};

static inline bool probe_is_forwarded(const struct probe *p)
{
	return p->in[0] != '\0';
}

/* Makes the socket, bound to a port of its own, or the way into the interface. Nothing is sent,
 * and one whose route is not safe (encap.h) is refused. 0, or a negative errno with `d` filled. */
int probe_open(struct probe *p, struct diag *d);

/* Sends its first packet; does not wait. 0, or the kernel's error: what connect(2) says before any
 * rule is asked. Then `from` is complete for a flow of this host. */
int probe_send(struct probe *p);

/* A probe that is not open (fd < 0) is fine. What it connected to sees a reset. */
void probe_close(struct probe *p);
