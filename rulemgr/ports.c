/* SPDX-License-Identifier: MIT */
#include "rulemgr/ports.h"

#include <string.h>

#include "policy/strbuf.h"

static bool ports_contain(const struct ports *p, uint16_t port)
{
	for (size_t i = 0; i < p->n; i++) {
		if (p->list[i] == port)
			return true;
	}
	return false;
}

static void ports_add(struct ports *p, uint16_t port)
{
	if (!ports_contain(p, port) && p->n < MODEL_PORTS_MAX)
		p->list[p->n++] = port;
}

static void add_redirected(struct ports *p, const struct model *m)
{
	for (size_t i = 0; i < m->n_chains; i++) {
		for (size_t k = 0; k < m->chains[i].n_rules; k++) {
			uint16_t port = rule_redirect_port(&m->chains[i].rules[k]);

			if (port != 0)
				ports_add(p, port);
		}
	}
}

static void add_earlier(struct ports *p, const char *comment)
{
	const char *at = strstr(comment, MODEL_COMMENT_EARLIER);
	unsigned port;
	int used;

	if (at == NULL)
		return;
	at += strlen(MODEL_COMMENT_EARLIER);
	while (sscanf(at, "%5u%n", &port, &used) == 1 && port <= UINT16_MAX) {
		ports_add(p, (uint16_t)port);
		at += used;
	}
}

struct ports ports_of(const struct model *m)
{
	struct ports p = {.n = 0};

	add_redirected(&p, m);
	add_earlier(&p, m->comment);
	return p;
}

void ports_remember(struct model *m, const struct ports *p)
{
	struct ports live = {.n = 0};
	char *end = strstr(m->comment, MODEL_COMMENT_EARLIER);
	bool first = true;
	struct strbuf sb;

	if (end != NULL)
		*end = '\0';
	add_redirected(&live, m);
	end = m->comment + strlen(m->comment);
	strbuf_init(&sb, end, (size_t)(m->comment + sizeof(m->comment) - end));
	for (size_t i = 0; i < p->n; i++) {
		char text[sizeof(MODEL_COMMENT_EARLIER "65535")];

		if (ports_contain(&live, p->list[i]))
			continue;
		snprintf(text, sizeof(text), "%s%u", first ? MODEL_COMMENT_EARLIER : " ",
			 p->list[i]);
		if (sb.len + strlen(text) >= sb.cap) /* half a number is another port */
			break;
		strbuf_puts(&sb, text);
		first = false;
	}
}
