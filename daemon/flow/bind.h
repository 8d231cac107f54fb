/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The command BIND of usocksd (RFC 1928 section 4; SOCKS4 has it as well): the client has named a peer from which it
 * expects a connection, as the server of active FTP. A port is opened at the client's own address and told in a
 * first reply. The first connection from that peer, from whatever port of its, becomes the remote end of the flow: the
 * second reply names it, the port is closed, and the relay begins. Who else connects meanwhile is reset.
 *
 * The session owns all of it (struct setup); everything runs on its thread.
 */
#include "daemon/net/listener.h"
#include "daemon/net/resolve.h"
#include "policy/acl.h"

/* Of each family; what is more of a name is left out. */
#define BIND_PEERS_MAX 16

struct session;

/* Private. The pairs are of IPv6 and of IPv4. The queries for them are those of the dial, which has nothing else to do. */
struct bind {
	int query_error;
	bool client_closed;       /* the client's end of stream has come */
	enum acl_verdict refused; /* of the first address that may not be */
	struct listener listener;
	int source;           /* the place of its address in the options; -1: none is configured */
	unsigned n_strangers; /* who came and was not expected */
	size_t n_peers[2];
	struct addr peers[2][BIND_PEERS_MAX]; /* who may come */
};

/* The request is allowed, and `dest` or `name` is the peer: SES_BIND until it is there or the session has ended. */
void bind_start(struct session *s);

/* SES_BIND: the client has sent its end of stream. It may still read, but mostly it has gone: the peer has a few seconds left. */
void bind_client_closed(struct session *s);

/* SES_BIND: gives up what is under way. */
void bind_stop(struct session *s);

/* This flow does not count for its client any more; fine where it does not. */
void bind_leave(struct session *s);

/* SES_BIND: whether the peer's name is still being resolved. */
bool bind_is_resolving(const struct session *s);
