/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * SOCKS version 5 (RFC 1928) with username/password (RFC 1929), both sides, as step.h says; `out` has
 * at least SOCKS5_OUT_MAX bytes.
 */
#include "daemon/proto/step.h"

#define SOCKS5_OUT_MAX (3 + 513 + 262) /* greeting, password and request in one flight */

/* RFC 1928 section 4. SOCKS4 has the first two, with the same numbers. */
enum socks5_command {
	SOCKS5_CONNECT = 0x01,
	SOCKS5_BIND = 0x02,
	SOCKS5_UDP_ASSOCIATE = 0x03,
};

/* RFC 1928 section 6. */
enum socks5_reply {
	SOCKS5_SUCCEEDED = 0x00,
	SOCKS5_GENERAL_FAILURE = 0x01,
	SOCKS5_NOT_ALLOWED = 0x02,
	SOCKS5_NETWORK_UNREACHABLE = 0x03,
	SOCKS5_HOST_UNREACHABLE = 0x04,
	SOCKS5_REFUSED = 0x05,
	SOCKS5_TTL_EXPIRED = 0x06,
	SOCKS5_BAD_COMMAND = 0x07,
	SOCKS5_BAD_ADDRESS_TYPE = 0x08,
};

/* The words of the RFC, "connection refused"; for other codes "unassigned reply code". */
const char *socks5_reply_text(uint8_t reply);
/* Whose fault it is that an upstream answers so. */
enum proto_blame socks5_reply_blame(uint8_t reply);

/* ---- the client's side, towards an upstream ---- */

struct socks5_client {
	uint8_t state;               /* private */
	bool greeted;                /* private: a method was agreed on */
	bool one_flight;             /* private */
	const char *user, *password; /* user "" : no authentication is offered */
	const struct proto_dest *dest;
	/* At PROTO_FAIL: */
	uint8_t reply;     /* the upstream's code, 1..255; 0: it did not get that far */
	const char *error; /* constant words; with a reply those of socks5_reply_text() */
	enum proto_blame blame;
	bool refused_user; /* user and password, or that there are none, are the reason */
	/* At PROTO_DONE: */
	struct addr bound; /* AF_UNSPEC if it was a name */
};

/* The pointers must live until the handshake is over. `dest` may be NULL and be told later, once: until then the
 * handshake stops where the request would follow. */
void socks5_client_init(struct socks5_client *c, const char *user, const char *password,
			const struct proto_dest *dest);
void socks5_client_dest(struct socks5_client *c, const struct proto_dest *dest);
/* Sends everything at once, before the first answer: one round trip instead of two or three. The RFC does
 * not forbid it, but some servers read one message for each recv(2) and lose the rest. Offers one method
 * only. After init, before the first step, which must know the destination. */
void socks5_client_one_flight(struct socks5_client *c);
/* The greeting phase: until the upstream has chosen one of the methods that were offered. Where it fails
 * before that, this stays true. */
bool socks5_client_greeting(const struct socks5_client *c);
/* Whether it stopped for want of a destination. A step then answers PROTO_MORE and takes no bytes. */
bool socks5_client_ready(const struct socks5_client *c);
/* Call it first with n = 0: it gives the greeting to be sent. */
enum proto_step socks5_client_step(struct socks5_client *c, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len);

/* ---- the server's side, towards a client ---- */

#define SOCKS5_REQUEST_MAX (257 + 513 + 262) /* greeting, password and request sent together */

/* What kind of address a request has. */
enum socks5_address {
	SOCKS5_ADDRESS_UNREAD, /* it never came, or is of no kind that there is */
	SOCKS5_ADDRESS_IPV4,
	SOCKS5_ADDRESS_IPV6,
	SOCKS5_ADDRESS_NAME,
	SOCKS5_ADDRESSES
};

struct socks5_server {
	uint8_t state;  /* private */
	bool passwords; /* private */
	/* How far it has come, at any time: */
	bool by_password; /* that method was chosen */
	bool agreed;      /* the client is let in: it may make its request */
	uint8_t address;  /* enum socks5_address, of a request that is there completely */
	uint8_t reply;    /* enum socks5_reply, by which a request was refused; 0: it was not */
	/* At PROTO_FAIL: */
	const char *error; /* a constant sentence */
	bool unknown;      /* the client could not say who it is, or is not believed */
	/* At PROTO_DONE: */
	enum socks5_command command;
	struct proto_dest dest;
	/* From socks5_server_asks() on, the password until the verdict: bytes of any value. */
	uint8_t user_len, password_len;
	char user[256], password[256]; /* NUL-terminated, but a NUL inside is possible */
};

/* With `passwords` every client has to log in, else none can. */
void socks5_server_init(struct socks5_server *s, bool passwords);
/* Method 02 is chosen with passwords, 00 without them, whatever else is offered too; else `05 FF`. Commands that
 * the RFC does not know fail with 07, address types with 08. The caller keeps unconsumed bytes and offers
 * them again with more. */
enum proto_step socks5_server_step(struct socks5_server *s, const uint8_t *in, size_t n,
				   size_t *used, uint8_t *out, size_t *out_len);
/* User and password are there, and the handshake waits for a verdict: a step answers PROTO_MORE and takes no
 * bytes. */
bool socks5_server_asks(const struct socks5_server *s);
/* Whether they are right, NULL, or why the client is not let in, a constant sentence. Wipes the password, and a user who
 * is none. Then step again. */
void socks5_server_verdict(struct socks5_server *s, const char *error);

/* The answer to a request: `bound` is our own end of the new connection (always sent as IPv4 or IPv6,
 * never as a name); with a failure it may be NULL and zeros are sent. Returns its length. */
size_t socks5_server_reply(enum socks5_reply reply, const struct addr *bound,
			   uint8_t out[SOCKS5_OUT_MAX]);
