/* SPDX-License-Identifier: MIT */
#include "daemon/flow/record.h"

#include <stdio.h>
#include <string.h>

/* Where the flow was, if its end does not say so itself. */
static const char *record_phase(const struct session *s, const struct why_row *row)
{
	if (strcmp(row->phase, "any") != 0)
		return row->phase;
	switch ((enum session_state)s->state) {
	case SES_REQUEST:
		return "request";
	case SES_DIAL:
		return s->setup->dial.phase == DIAL_RESOLVE ? "resolve" : "connect";
	case SES_BIND:
		return bind_is_resolving(s) ? "resolve" : "bind";
	case SES_HANDSHAKE:
		return handshake_greeting(&s->setup->handshake) ? "greeting" : "reply";
	case SES_UDP:
		return "associate";
	case SES_RELAY:
	case SES_FLUSH:
	case SES_LINGER:
	case SES_ENDED:
		break;
	}
	return "relay";
}

/* The words of enum name_from. */
static const char *const name_from_words[] = {"request", "tls", "tls-outer", "http", "proxy"};

/* Of enum socks_protocol and enum socks5_command. */
static const char *const protocol_words[] = {"", "SOCKS4", "SOCKS4a", "SOCKS5"};
static const char *const command_words[] = {"", "CONNECT", "BIND", "UDP ASSOCIATE"};

static const struct flow_rule *record_rule(const struct session *s, uint16_t rule)
{
	return &s->view->plan->conf->rules.rules[rule - 1];
}

static void record_add_failed(struct log_line *line, const struct session *s)
{
	const struct session_rare *rare = s->rare;
	const struct why_row *row = &why_rows[rare->failed_why];
	const char *detail = rare->failed_detail != NULL ? rare->failed_detail
			     : rare->failed_err != 0     ? strerror(rare->failed_err)
							 : row->word;
	char text[UPSTREAM_FAILURE_TEXT_MAX];

	snprintf(text, sizeof(text), "%s: %s", row->phase, detail);
	log_add(line, "failed_upstream", s->view->plan->conf->upstreams[rare->failed - 1].name);
	log_add(line, "failed_error", text);
}

/* Which way the flow went, and why. */
static void record_add_way(struct log_line *line, const struct session *s)
{
	if (s->rule != 0)
		log_add(line, "rule", record_rule(s, s->rule)->name);
	if (s->observed != 0) {
		const struct flow_rule *rule = record_rule(s, s->observed);

		log_add(line, "observed_rule", rule->name);
		log_add(line, "observed_action", rule_action_words[rule->action]);
	}
	if (s->upstream != NULL)
		log_add(line, "upstream", s->upstream->conf->name);
	else if (s->direct)
		log_add(line, "upstream", "direct");
	if (s->all_down)
		log_add(line, "direct_because", "when_all_down");
	if (s->rare != NULL && s->rare->dialled.family != AF_UNSPEC)
		log_add_addr(line, "dialled", &s->rare->dialled);
	if (s->n_tries > 1)
		log_add_uint(line, "tries", s->n_tries);
	if (s->rare != NULL && s->rare->failed != 0)
		record_add_failed(line, s);
}

/* Whether the upstream's first answer did not come, or is none: of SOCKS5 that to the greeting. */
static bool record_no_answer(const struct session *s, enum why why)
{
	return why == WHY_GREETING_FAILED || why == WHY_GREETING_TIMEOUT ||
	       (why == WHY_REPLY_FAILED && s->upstream->conf->url.scheme != PROXY_SOCKS5);
}

/* Which options have to do with it, or NULL. */
static const char *record_hint(const struct session *s, enum why why)
{
	const struct handshake *h = &s->setup->handshake;

	if (why == WHY_RULE_REFUSED && s->name == NULL &&
	    record_rule(s, s->rule)->domain_set != NULL)
		return "no name was known; see option rule.unknown_name";
	if (why == WHY_BIND_TIMEOUT && s->setup->bind->n_strangers > 0)
		return "others connected to the port, but not the peer that the request names";
	if (s->state == SES_HANDSHAKE && h->refused_user)
		return "see option upstream.auth_file, or user and password in the URL";
	if (record_no_answer(s, why))
		return "see options upstream.url (is the scheme the upstream's protocol?) and "
		       "upstream.proxy_protocol (does it expect that header, or not?)";
	if (why == WHY_REPLY_REFUSED && s->setup->tells_name &&
	    handshake_may_be_name(h, HANDSHAKE_REFUSED))
		return "the upstream was told the name; if it cannot resolve it, see options "
		       "upstream.address and upstream.name_fallback";
	return NULL;
}

/* What a UDP association has done beside `bytes_up` and `bytes_down`. */
static void record_add_udp(struct log_line *line, const struct udp *u)
{
	char name[32];

	log_add_uint(line, "datagrams_up", u->n_up);
	log_add_uint(line, "datagrams_down", u->n_down);
	for (unsigned i = 0; i < UDP_DROP_COUNT; i++) {
		if (u->dropped[i] == 0)
			continue;
		snprintf(name, sizeof(name), "dropped_%s", udp_drop_words[i]);
		log_add_uint(line, name, u->dropped[i]);
	}
	if (u->refused != NULL) {
		log_add(line, "refused_dest", u->refused);
		log_add(line, "refused_error", acl_text(u->refused_why));
	}
}

void record_write_refused(const struct addr *client, enum why why, int err)
{
	const struct why_row *row = &why_rows[why];
	struct log_line line;

	if (!log_begin(&line, row->level, "flow failed"))
		return;
	log_add(&line, "type", "access");
	log_add_addr(&line, "client_addr", client);
	log_add(&line, "end", row->word);
	log_add(&line, "phase", "accept");
	if (err != 0)
		log_add(&line, "error", strerror(err));
	log_end(&line);
}

void record_write(const struct session *s, enum why why, int err, const char *detail)
{
	const struct why_row *row = &why_rows[why];
	struct log_line line;
	const char *hint;

	if (!log_begin(&line, row->level,
		       row->level >= LOG_LEVEL_INFO ? "flow ended" : "flow failed"))
		return;
	log_add(&line, "type", "access");
	log_add_addr(&line, "client_addr", &s->client_addr);
	if (session_via(s) != NULL)
		log_add_addr(&line, "via", session_via(s));
	if (s->rare != NULL && s->rare->user != NULL)
		log_add(&line, "user", s->rare->user);
	if (s->protocol != SOCKS_PROTOCOL_NONE) {
		log_add(&line, "protocol", protocol_words[s->protocol]);
		log_add(&line, "command", command_words[s->command]);
	}
	if (s->name != NULL)
		log_add(&line, "dest_host", s->name);
	if (s->name != NULL && s->name_from != NAME_FROM_REQUEST)
		log_add(&line, "name_from", name_from_words[s->name_from]);
	if (s->dest.family != AF_UNSPEC)
		log_add_addr(&line, "dest_addr", &s->dest);
	else if (s->name != NULL)
		log_add_uint(&line, "dest_port", s->port);
	record_add_way(&line, s);
	if (s->src_addr.family != AF_UNSPEC)
		log_add_addr(&line, "src_addr", &s->src_addr);
	log_add_uint(&line, "bytes_up", s->client.nbytes);
	log_add_uint(&line, "bytes_down", s->remote.nbytes);
	if (session_udp(s) != NULL)
		record_add_udp(&line, session_udp(s));
	log_add_elapsed(&line, "elapsed", s->engine->loop.now_ms - s->start_ms);
	log_add(&line, "end", row->word);
	if (why != WHY_DONE)
		log_add(&line, "phase", record_phase(s, row));
	if (detail != NULL)
		log_add(&line, "error", detail);
	else if (err != 0)
		log_add(&line, "error", strerror(err));
	hint = s->setup != NULL ? record_hint(s, why) : NULL;
	if (hint != NULL)
		log_add(&line, "hint", hint);
	log_end(&line);
}
