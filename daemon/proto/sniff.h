/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The name of the site that a client asks for, from its first bytes: the server name of a TLS ClientHello or
 * the host of an HTTP/1 request. Pure, without allocation; a value, used by one thread at a time.
 *
 * Client and server read the same bytes, so a name counts only where no two readers could see two: what a
 * server has to reject, or what names two sites, is SNIFF_NONE. What is none is told as soon as the bytes
 * tell it, so that other protocols are not held up.
 */
#include "policy/name.h"

/* A ClientHello message of 16 KiB with the headers of its records, which may be small; or the header of a
 * request. What goes on behind that has no name. */
#define SNIFF_BYTES_MAX (32 * 1024)

enum sniff_result {
	SNIFF_MORE,  /* the bytes so far do not tell */
	SNIFF_FOUND, /* sniff.name */
	SNIFF_NONE,  /* sniff.none says why; more bytes would not help */
};

enum sniff_protocol {
	SNIFF_UNKNOWN, /* neither of them, or too early to tell */
	SNIFF_TLS,
	SNIFF_HTTP, /* HTTP/1 */
};

/* Private to tls_hello.c. */
struct sniff_tls {
	uint8_t head_n;       /* bytes of the current record's header that were read */
	uint16_t record_left; /* bytes of the current record that were not, or its length so far */
	uint8_t field;        /* enum tls_field: the integer that is read */
	uint8_t width;        /* its bytes that are missing */
	uint32_t value;       /* those that are there */
	uint32_t skip;        /* bytes in front of it that are not looked at */
	uint32_t left;        /* of the message, behind all that */
	uint16_t inner;       /* of the extension server_name or what is left of it */
	bool named, in_name, outer;
	uint8_t name_n;
	char name[NAME_MAX_LEN + 1]; /* as it came; one more byte for a trailing dot */
};

/* Private to http_host.c. Positions are from the client's first byte. */
struct sniff_http {
	uint8_t state;   /* enum http_state */
	uint8_t matched; /* bytes of the constant text that is expected */
	bool connect, prior, named_by_target, has_host;
	uint16_t usual_port; /* of the target's scheme; or 0 */
	uint32_t begin;      /* of the line or word that is read */
	uint32_t host, host_len;
};

struct sniff {
	/* At SNIFF_FOUND: */
	char name[NAME_MAX_LEN + 1]; /* as name_normalise() gives it */
	/* The ClientHello carries an encrypted one (RFC 9849): whether `name` is the site, or only a front that
	 * can decrypt what the site is, cannot be known. Clients without a key send a decoy ("GREASE") that
	 * cannot be told apart, and then `name` is the site. */
	bool ech;
	/* The request has the form that is meant for a proxy (RFC 9112 section 3.2.2, 3.2.3): `name` is the
	 * site, but where the flow goes is a proxy, not the site. */
	bool to_proxy;
	bool tunnel; /* ... and it is CONNECT: no other server than a proxy makes sense of it */
	uint16_t to_port; /* ... the port of the site; 0: not known */
	/* At SNIFF_NONE: */
	const char *none; /* a constant phrase such as "no server name" */
	/* Always: */
	enum sniff_protocol protocol;

	enum sniff_result result; /* private, like all below */
	uint32_t at;              /* bytes that were read */
	union {
		struct sniff_tls tls;
		struct sniff_http http;
	};
};

void sniff_init(struct sniff *s);

/* `bytes` are all `n` that the client has sent so far, each time: those of the last call and maybe more. What
 * comes of them does not depend on how they came, and each is read once. After SNIFF_FOUND and SNIFF_NONE it stays
 * at that. Reads no more than SNIFF_BYTES_MAX. */
enum sniff_result sniff_step(struct sniff *s, const uint8_t *bytes, size_t n);

/* For tls_hello.c and http_host.c. */
enum sniff_result sniff_end_none(struct sniff *s, const char *none);
/* With the name as it came; SNIFF_NONE if it is none. */
enum sniff_result sniff_end_name(struct sniff *s, const char *name, size_t n);
#define SNIFF_NEITHER "not TLS or HTTP"
