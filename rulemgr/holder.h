/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Which process holds the netlink socket that owns a table. Reads /proc; what cannot be seen there, such as
 * processes of others without root, is left out.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#define HOLDER_TEXT_MAX 80

/* Whether there is a netfilter socket of that netlink port in this network namespace; `out` then says who holds
 * it: "transocksd (pid 42)", or "an unknown process". */
bool holder_find(uint32_t port, char *out, size_t cap);
