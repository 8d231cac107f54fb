/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The way to transocksd's control socket. One request, one connection; blocking, CONTROL_ANSWER_S at most for
 * each answer.
 */

/* Longer than the daemon gives to a connection. */
#define CONTROL_ANSWER_S 10

/* The connection to the socket at `path`, or a negative errno. */
int control_connect(const char *path);
