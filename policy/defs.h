/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The values that the three programs agree on, each written down once, and the few macros that
 * every file may use. Exit codes are those of <sysexits.h>; the manuals list them.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define TRANSOCKS_VERSION "0.1.0"

/* The user both daemons become; transocks-rules skips the flows of this user. */
#define DEFAULT_USER "transocks"
/* What to type where that user is missing; the name follows. */
#define USERADD_COMMAND "useradd --system --no-create-home --shell /usr/sbin/nologin"

/* SO_MARK of every socket the daemons open towards the network; transocks-rules skips it.
 * Clear of kube-proxy (0x4000, 0x8000), portmap (0x2000), Cilium (0x0f00), Tailscale (0xff0000). */
#define DEFAULT_MARK_VALUE 0x1000u
#define DEFAULT_MARK_MASK  0x1000u
#define DEFAULT_MARK_TEXT  "0x1000/0x1000"

/* Set by the rules on packets that TPROXY takes, so that routing hands them to this host. */
#define DEFAULT_TPROXY_MARK_VALUE 0x10u
#define DEFAULT_TPROXY_MARK_MASK  0x10u
#define DEFAULT_TPROXY_MARK_TEXT  "0x10/0x10"

/* One behind "dstnat" (-100): at one priority the chain registered last runs first, and the first
 * chain that translates a flow wins. So what Docker, kube-proxy or libvirt translate stays theirs. */
#define DEFAULT_REDIRECT_PRIORITY      (-99)
#define DEFAULT_REDIRECT_PRIORITY_TEXT "-99"

#define DEFAULT_TRANSOCKS_PORT 1081
#define DEFAULT_USOCKS_PORT    1080

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* For our own mistakes only; bytes from outside are never asserted on. */
#define BUG_ON(cond)                                                                    \
	do {                                                                            \
		if (__builtin_expect(!!(cond), 0)) {                                    \
			fprintf(stderr, "BUG: %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                        \
		}                                                                       \
	} while (0)
