/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Which process holds a socket: the netlink socket that owns a table, or a listener. Reads /proc; what cannot be seen there, such as
 * processes of others without root, is left out.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/types.h>

#define HOLDER_TEXT_MAX 192
#define HOLDER_NAME_MAX 32

struct holder {
	pid_t pid;
	uid_t uid;                  /* of the sockets that it makes; (uid_t)-1: it has gone */
	char name[HOLDER_NAME_MAX]; /* as the kernel keeps it, cut at 15 bytes */
};

/* Those who hold the socket of that inode, `max` at most; the number of them. */
size_t holders_of_socket(unsigned long inode, struct holder *out, size_t max);

/* Whether there is a netfilter socket of that netlink port in this network namespace; `out` then says who holds
 * it: "transocksd (pid 42)", with " and " between several, or "an unknown process". */
bool holder_find(uint32_t port, char *out, size_t cap);
