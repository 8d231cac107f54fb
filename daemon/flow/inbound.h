/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The ways in which flows come to a daemon, each a first state for sessions (engine.h).
 */
#include "daemon/flow/engine.h"

/* transocksd: netfilter redirected the connection; the socket says where it was going. */
extern const struct inbound inbound_redirect;

/* usocksd: the client asks by SOCKS. */
extern const struct inbound inbound_socks;
