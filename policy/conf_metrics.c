/* SPDX-License-Identifier: MIT */
/*
 * Where metrics are served: metrics.listen, or what usocksd's files had before it.
 */
#include <errno.h>
#include <string.h>

#include "policy/conf_rows.h"

static const struct addr_list *written(const struct conf *c)
{
	return &c->metrics.listen;
}

/* A port alone is for this host, in both families. */
static size_t loopback_at(uint16_t port, struct addr out[2])
{
	static const uint8_t v4[4] = {127, 0, 0, 1}, v6[16] = {[15] = 1};

	out[0] = addr_from_bytes(v4, sizeof(v4), port);
	out[1] = addr_from_bytes(v6, sizeof(v6), port);
	return 2;
}

/* Flows would come to the one or to the other. */
static int check_apart(const struct conf *c, const char *option, const char *file, struct diag *d)
{
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < c->metrics.at.n; i++) {
		const struct addr *a = &c->metrics.at.addrs[i];

		for (size_t k = 0; k < c->listen.n; k++) {
			const struct addr *b = &c->listen.addrs[k];

			if (a->family == b->family && a->port == b->port &&
			    (addr_equal_ip(a, b) || addr_is_any(a) || addr_is_any(b)))
				return diag_set(d, EINVAL, file, 0,
						"option \"%s\": %s is where flows come in", option,
						addr_format(a, text, sizeof(text)));
		}
	}
	return 0;
}

int conf_finish_metrics(struct conf *c, unsigned port, const char *file, struct diag *d)
{
	const char *option = port != 0 ? "incoming.metrics_port" : "metrics.listen";
	struct addr_list *at = &c->metrics.at;
	struct addr *addrs;

	if (port != 0 && written(c)->n > 0)
		return diag_set(d, EINVAL, file, 0,
				"option \"incoming.metrics_port\" stands beside "
				"\"metrics.listen\", which says the same with an address: leave "
				"one of them out");
	addrs = calloc(written(c)->n + 2, sizeof(*addrs));
	if (addrs == NULL)
		return diag_set(d, ENOMEM, file, 0, "out of memory");
	free(at->addrs);
	*at = (struct addr_list){.addrs = addrs, .n = written(c)->n};
	if (at->n > 0)
		memcpy(addrs, written(c)->addrs, at->n * sizeof(*addrs));
	else if (port != 0)
		at->n = loopback_at((uint16_t)port, addrs);
	c->metrics.at_default = addr_list_has_both_families(at);
	if (addr_list_check_distinct(at, option, file, d) < 0)
		return -EINVAL;
	return check_apart(c, option, file, d);
}
