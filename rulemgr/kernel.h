/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A netlink socket to netfilter, and questions asked over it. One owner, one thread, blocking (a
 * question waits at most KERNEL_TIMEOUT_S seconds).
 */
#include <libmnl/libmnl.h>
#include <stdint.h>

#include "policy/diag.h"

#define KERNEL_TIMEOUT_S 10

/* Bytes for one message of ours. */
#define KERNEL_MESSAGE_MAX 32768

/* Larger than any single message of the kernel, so that none is cut. */
#define KERNEL_BUFFER_LEN (128 * 1024)

struct kernel {
	struct mnl_socket *sock;
	uint32_t seq; /* of the last message sent */
	char *buffer; /* KERNEL_BUFFER_LEN bytes for answers */
	/* Control socket of the transocksd through which an owned table is changed (loan.h), borrowed; NULL: the
	 * default one. For whoever opens it to set. */
	const char *control;
};

/* Opens and asks for the generation of the ruleset, so that what is missing shows here:
 * -EPERM without CAP_NET_ADMIN, -EOPNOTSUPP without nf_tables. */
int kernel_open(struct kernel *k, struct diag *d);
/* A socket that somebody else has made, which is taken over in any case. What is left of answers to others is
 * thrown away. 0 or a negative errno. */
int kernel_adopt(struct kernel *k, int fd);
/* The netlink port: what owner a table has that this socket makes. */
uint32_t kernel_port(const struct kernel *k);
/* A zeroed or closed socket is fine. */
void kernel_close(struct kernel *k);

/* Begins a question in `buf` (KERNEL_MESSAGE_MAX bytes); `type` is an nf_tables message. With
 * NLM_F_DUMP in `flags` the answer is a list. */
struct nlmsghdr *kernel_question(struct kernel *k, char *buf, uint16_t type, uint16_t family,
				 uint16_t flags);
/* Sends it and hands each answer to `fn`, which returns MNL_CB_OK, or MNL_CB_ERROR with errno set.
 * 0; the kernel's negative errno; -ERESTART when the list changed under us. */
int kernel_ask(struct kernel *k, struct nlmsghdr *question, mnl_cb_t fn, void *ctx);

/* So that one message of `len` bytes can be sent, as far as privileges go. */
void kernel_make_room(struct kernel *k, size_t len);

/* The number of the ruleset's present generation: it grows with every change by anybody. */
int kernel_generation(struct kernel *k, uint32_t *generation);
