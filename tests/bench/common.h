/* SPDX-License-Identifier: MIT */
/*
 * What the load generator and the endpoint agree on: ports, sizes, the bytes of a bulk stream and the
 * trailer that ends it. Both run on one machine, so numbers are in its byte order.
 */
#pragma once

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	PORT_SOCKS = 1080,
	PORT_ECHO = 7001,   /* every byte comes back */
	PORT_CRC = 7002,    /* CRC_REQUEST bytes are answered by CRC_RESPONSE bytes, repeatedly */
	PORT_SOURCE = 7003, /* a bulk stream until our FIN, then a trailer and a FIN */
	PORT_SINK = 7004,   /* takes a bulk stream until our FIN, then sends a trailer and a FIN */
};

enum {
	CRC_REQUEST = 128,
	CRC_RESPONSE = 512,
	CRC_BYTE = 0x5a, /* all of a response */
	BULK_CHUNK = 256 << 10,
	BULK_READ = 64 << 20,  /* what is only counted can be had at one go */
	BULK_PERIOD = 1048573, /* prime: a block that is lost, repeated or moved shows */
	BULK_SAMPLE = 32,      /* one read in so many is looked at, the others are only counted */
	SAMPLE_SIZE = 64 << 10,
};

/* What the endpoint knows of a stream that is over. */
struct trailer {
	uint64_t nbytes;     /* sent by the source, or received by the sink */
	uint64_t mismatches; /* samples with a wrong byte */
};

/* The byte at position `pos` of every bulk stream is bulk_pattern[pos % BULK_PERIOD]. */
extern uint8_t bulk_pattern[BULK_PERIOD + BULK_CHUNK];
void bulk_init(void);

/* Where to send from at `pos`; BULK_CHUNK bytes are there. */
static inline const uint8_t *bulk_at(uint64_t pos)
{
	return bulk_pattern + pos % BULK_PERIOD;
}

/* As many descriptors as the hard limit gives. */
void limit_raise(void);

/* Says what failed, by errno, and ends the program. */
__attribute__((noreturn)) void die(const char *what);
