/* SPDX-License-Identifier: MIT */
#include "daemon/flow/counts.h"

#include "daemon/core/shared.h"
#include "daemon/flow/session.h"

#define COUNTS_WORD(id, word) [id] = word,
const char *const counts_version_words[COUNTS_VERSIONS] = {COUNTS_VERSION_TABLE(COUNTS_WORD)};
const char *const counts_status_words[COUNTS_STATUSES] = {COUNTS_STATUS_TABLE(COUNTS_WORD)};
const char *const counts_dial_words[COUNTS_DIALS] = {COUNTS_DIAL_TABLE(COUNTS_WORD)};
#undef COUNTS_WORD

void counts_collect(struct counts *sum, const struct counts *c)
{
	const uint64_t *from = (const uint64_t *)c;
	uint64_t *to = (uint64_t *)sum;

	_Static_assert(sizeof(*c) % sizeof(*from) == 0, "all of it are such numbers");
	for (size_t i = 0; i < sizeof(*c) / sizeof(*from); i++)
		to[i] += SHARED_GET(from[i]);
}

static struct counts *counts_of(const struct session *s)
{
	return &s->engine->counts;
}

static enum counts_version counts_version(const struct socks_server *server)
{
	switch (server->version) {
	case 4:
		return COUNTS_SOCKS4;
	case 5:
		return COUNTS_SOCKS5;
	default:
		return COUNTS_UNKNOWN;
	}
}

static enum counts_status counts_by_reply(enum socks5_reply reply)
{
	static const enum counts_status by_reply[] = {
		[SOCKS5_SUCCEEDED] = COUNTS_GRANTED,
		[SOCKS5_GENERAL_FAILURE] = COUNTS_FAILURE,
		[SOCKS5_NOT_ALLOWED] = COUNTS_NOT_ALLOWED,
		[SOCKS5_NETWORK_UNREACHABLE] = COUNTS_NETWORK,
		[SOCKS5_HOST_UNREACHABLE] = COUNTS_HOST,
		[SOCKS5_REFUSED] = COUNTS_REFUSED,
		[SOCKS5_TTL_EXPIRED] = COUNTS_TTL,
		[SOCKS5_BAD_COMMAND] = COUNTS_COMMAND,
		[SOCKS5_BAD_ADDRESS_TYPE] = COUNTS_ADDRESS,
	};

	return by_reply[reply];
}

/* Of a handshake that went wrong. */
static enum counts_status counts_bad_request(const struct socks_server *server)
{
	if (server->version == 0)
		return COUNTS_UNKNOWN_VERSION;
	if (server->version == 5 &&
	    (server->v5.reply == SOCKS5_BAD_COMMAND || server->v5.reply == SOCKS5_BAD_ADDRESS_TYPE))
		return counts_by_reply(server->v5.reply);
	return COUNTS_INVALID;
}

static enum counts_status counts_status(const struct socks_server *server, enum why why, int err)
{
	switch (why) {
	case WHY_REQUEST_BAD:
		return counts_bad_request(server);
	case WHY_AUTH_FAILED:
		return COUNTS_AUTH;
	case WHY_CLIENT_GONE:
		return COUNTS_CLIENT_GONE;
	case WHY_REQUEST_TIMEOUT:
		return COUNTS_TIMEOUT;
	default:
		return server->version == 4 ? COUNTS_REJECTED
					    : counts_by_reply(why_reply(why, err));
	}
}

/* What became of the client's handshake. */
static void counts_handshake(const struct session *s, enum counts_status status)
{
	const struct socks_server *server = &s->setup->server;
	struct counts *c = counts_of(s);

	if (s->protocol != 0)
		SHARED_ADD(c->requests[s->command], 1);
	SHARED_ADD(c->connections[counts_version(server)][status], 1);
	if (server->version != 5)
		return;
	SHARED_ADD(c->auth[server->v5.by_password][server->v5.agreed], 1);
	if (server->v5.agreed)
		SHARED_ADD(c->addresses[server->v5.address], 1);
}

static bool counts_is_socks(const struct session *s)
{
	return s->engine->inbound->answer != NULL;
}

void counts_granted(struct session *s)
{
	struct counts *c = counts_of(s);

	s->granted = true;
	s->setup_ms = (uint32_t)(s->engine->loop.now_ms - s->start_ms);
	SHARED_ADD(c->relayed, 1);
	histogram_add(&c->setup_ms, &histogram_waits, s->setup_ms);
	if (counts_is_socks(s))
		counts_handshake(s, COUNTS_GRANTED);
}

static void counts_lasted(const struct session *s, struct histogram *h)
{
	histogram_add(h, &histogram_lasts, s->engine->loop.now_ms - s->start_ms - s->setup_ms);
}

void counts_moved(struct engine *e, enum counts_direction way, uint64_t nbytes)
{
	SHARED_ADD(e->counts.ways[way].bytes, nbytes);
}

void counts_stream_over(const struct session *s, enum counts_direction way)
{
	counts_lasted(s, &counts_of(s)->ways[way].flow_lasts_ms);
}

static void counts_way_ended(const struct session *s, enum counts_direction way)
{
	const struct leg *from = way == COUNTS_UP ? &s->client : &s->remote;
	struct counts_way *w = &counts_of(s)->ways[way];

	histogram_add(&w->flow_bytes, &histogram_bytes, from->nbytes);
	if (from->finished)
		return;
	counts_stream_over(s, way);
	SHARED_ADD(w->errors, 1);
}

void counts_ended(struct session *s, enum why why, int err)
{
	struct counts *c = counts_of(s);

	if (s->granted) {
		SHARED_SUB(c->relayed, 1);
		counts_lasted(s, &c->lasts_ms[why != WHY_DONE]);
		counts_way_ended(s, COUNTS_UP);
		counts_way_ended(s, COUNTS_DOWN);
	} else if (counts_is_socks(s)) {
		counts_handshake(s, counts_status(&s->setup->server, why, err));
	}
}

void counts_dropped(struct engine *e)
{
	if (e->inbound->answer != NULL)
		SHARED_ADD(e->counts.connections[COUNTS_UNKNOWN][COUNTS_FAILURE], 1);
}

void counts_dial(struct engine *e, enum counts_dial how, uint64_t began_ms)
{
	histogram_add(&e->counts.dial_ms[how], &histogram_waits, e->loop.now_ms - began_ms);
}

void counts_acl(const struct session *s, enum acl_verdict verdict)
{
	/* One over its limit is refused for that, whatever else there is against it. */
	if (!s->refused)
		SHARED_ADD(counts_of(s)->acl[verdict], 1);
}
