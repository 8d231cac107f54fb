/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Sockets as every part of the daemons wants them: born non-blocking and close-on-exec, with
 * TCP_NODELAY, and marked where they go out to the network. Any thread.
 */
#include "policy/addr.h"
#include "policy/conf.h"
#include "policy/diag.h"

#define SOCK_BACKLOG 4096 /* of a listener; the kernel cuts it to net.core.somaxconn */

struct sock_options {
	struct mark mark; /* for sockets towards the network; mask 0: none */
	/* We send first on what connects: the last packet of TCP's handshake then goes with the first
	 * bytes instead of alone. */
	bool speaks_first;
	/* The addresses to connect from, of any family and with port 0; NULL or empty: the kernel's choice. They
	 * outlive whoever has these options. */
	const struct addr_list *source;
	unsigned source_turn; /* which of those of a family is tried first; any number */
	/* What is connected to goes out through this interface, but not what is on this host's loopback; NULL or "": as
	 * routes say. Lives as long as `source`. */
	const char *iface;
};

struct sock_listen_options {
	int64_t keepalive_ms; /* as in sock_keepalive() */
	/* Of one for each worker the first: -EADDRINUSE if anybody listens there, also one of this user who
	 * would share the port. Of several that ask at once, one gets it at most. */
	bool first;
	/* For what TPROXY brings, whatever its destination. -EPERM without CAP_NET_RAW or CAP_NET_ADMIN, which
	 * what it accepts does not need. */
	bool transparent;
};

/* A TCP listener at `a` with SO_REUSEPORT (one for each worker) and SO_REUSEADDR; IPv6 listeners
 * are IPv6 only. Connections inherit TCP_NODELAY, keepalive and inline urgent data. The descriptor, or -errno
 * with `d`. */
int sock_listen(const struct addr *a, const struct sock_listen_options *o, struct diag *d);

/* A TCP socket to connect with. The descriptor or -errno; -EPERM if the mark cannot be set (it
 * needs CAP_NET_RAW on Linux 5.17, CAP_NET_ADMIN before). */
int sock_stream(int family, const struct sock_options *o);

/* A UDP socket to send from; of IPv6, for IPv6 alone. The descriptor or -errno, as above. */
int sock_datagram(int family, const struct sock_options *o);

/* A UDP socket of the same kind that is bound to that address and any port, towards a client: without a mark, as what a
 * listener accepts. The descriptor or -errno. */
int sock_datagram_at(const struct addr *a);

/* How many of the source addresses are of that family; and the place in the list of the one that is tried after
 * `nth` others, `nth` less than that. */
size_t sock_sources(const struct sock_options *o, int family);
size_t sock_source(const struct sock_options *o, int family, size_t nth);

/* Binds to the address and leaves the port to connect(2), which then takes any that is free towards where it
 * goes (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), so that the same ports serve each destination. 0 or -errno; -EADDRNOTAVAIL: the
 * address is not one of this host. Where all ports are in use, connect(2) says that. */
/* Whether one may be bound to it: it is one of this host's, at this moment. True where that cannot be asked. */
bool sock_is_own(const struct addr *source);
int sock_bind_source(int fd, const struct addr *source);

/* The same for an address that need be none of this host (IP_FREEBIND, IPV6_FREEBIND of Linux 4.15); a route of type
 * "local" has to bring in what is sent to it. */
int sock_bind_foreign(int fd, const struct addr *source);

/* SO_BINDTODEVICE, which any user may do once (Linux 5.7). 0 or -errno; -ENODEV: there is none of that name. */
int sock_bind_iface(int fd, const char *iface);
/* The same with that of the options, for a socket whose peer is `peer`. */
int sock_take_iface(int fd, const struct sock_options *o, const struct addr *peer);

/* The address of this host, with port 0, that a connection to `to` would be made from if no source were named. Nothing is
 * sent. 0 or -errno. */
int sock_route(const struct sock_options *o, const struct addr *to, struct addr *own);

/* connect(2) without waiting: 0 connected, -EINPROGRESS, or another -errno. */
int sock_connect(int fd, const struct addr *to);

/* Takes and clears the pending error (SO_ERROR): 0 or -errno. */
int sock_error(int fd);

int sock_mark(int fd, const struct mark *m); /* 0 or -errno */

/* Bytes that the peer's kernel has not acknowledged yet (SIOCOUTQ); 0 also where the kernel does not say. */
int sock_unsent(int fd);

/* Whether `err` (an errno) says that this host is short of memory or descriptors, and nothing of the peer. */
bool sock_is_shortage(int err);

/* For how long (ms) the peer has answered nothing, where it owes an answer to some retransmissions, or to some
 * probes of the window that it has closed. 0: it does not. */
uint64_t sock_unanswered_ms(int fd);

struct addr sock_local(int fd); /* AF_UNSPEC if the kernel does not say */

/* TCP keepalive after so long; 0: none. Who is gone is found after about twice that. On a listener it counts for what is accepted from then on.
 * 0 or -errno. */
int sock_keepalive(int fd, int64_t keepalive_ms);

/* Sends an ACK that waits, of a socket with `speaks_first` that has nothing to say yet. 0 or -errno. */
int sock_ack_now(int fd);

/* Urgent data (RFC 6093) stays in the stream, where it was sent; accepted sockets inherit that from their
 * listener. 0 or -errno. */
int sock_inline_urgent(int fd);

/* Closes with RST instead of FIN, dropping what is unsent: the peer must not take what it got for
 * the whole. */
void sock_close_reset(int fd);
