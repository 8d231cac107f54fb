/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Lists of the kernel over netlink, outside netfilter: sockets (NETLINK_SOCK_DIAG), policy rules
 * (NETLINK_ROUTE). One question, one socket; blocking, DUMP_TIMEOUT_S at most.
 */
#include <libmnl/libmnl.h>
#include <stdint.h>

#define DUMP_TIMEOUT_S 10

/* Sends `question` (its flags and sequence number are set here) on netlink bus `bus` and hands each answer
 * to `fn`, which returns MNL_CB_OK, or MNL_CB_ERROR with errno set. 0 or a negative errno. */
int dump_read(int bus, struct nlmsghdr *question, mnl_cb_t fn, void *ctx);

/* TCP sockets of `family` (AF_INET, AF_INET6) in one of `states` (bits 1 << TCP_LISTEN, ...); `fn` gets
 * messages with a struct inet_diag_msg. */
int dump_tcp_sockets(uint8_t family, uint32_t states, mnl_cb_t fn, void *ctx);
