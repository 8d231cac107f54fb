/* SPDX-License-Identifier: MIT */
#include "daemon/descriptors.h"

#include <errno.h>
#include <sys/resource.h>

#include "daemon/admin/control.h"
#include "daemon/admin/http.h"
#include "daemon/core/pipes.h"
#include "daemon/egress/dnsbl.h"
#include "daemon/upstream/probe.h"
#include "daemon/upstream/warm.h"

/* What a UDP association has more than a flow: a socket towards the client and one of each family, instead of one. */
#define UDP_DESCRIPTORS 2
/* So many of them, if nothing is written, as long as they take no larger part of the descriptors than this. */
#define UDP_DEFAULT 1024
#define UDP_SHARE   4

/* Every descriptor that the kernel lets us have; the result is bounded to what makes sense. */
static size_t nofile_raise(void)
{
	const size_t enough = 1u << 20;
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return 1024;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	getrlimit(RLIMIT_NOFILE, &lim);
	return lim.rlim_cur < enough ? (size_t)lim.rlim_cur : enough;
}

/* Pipes for all workers together, two descriptors each: they must not eat up those of the flows. */
static size_t max_pipes(size_t nofile)
{
	size_t by_memory = pipes_limit(), by_nofile = nofile / 32;

	return by_memory < by_nofile ? by_memory : by_nofile;
}

/* Some are for what is not a flow: epoll, event, log, DNS, news of addresses, attempts that race, whoever has just
 * connected to the port of a BIND. */
void descriptors_share(struct descriptors *ds, const struct conf *c, unsigned n_workers)
{
	size_t nofile = nofile_raise();
	size_t reserve = 16 + CONTROL_CLIENTS_MAX + 1 + n_workers * (7 + c->listen.n);

	ds->n_pipes = max_pipes(nofile);
	reserve += 2 * ds->n_pipes + http_descriptors(c);
	ds->left = nofile > reserve + 2 ? nofile - reserve : 2;
}

size_t descriptors_udp(const struct descriptors *ds, const struct conf *c)
{
	size_t share = ds->left / UDP_SHARE / UDP_DESCRIPTORS;

	if (!(c->incoming.commands & 1u << INCOMING_UDP_ASSOCIATE))
		return 0;
	if (c->limits.max_udp_associations > 0)
		return c->limits.max_udp_associations;
	return share < UDP_DEFAULT ? share : UDP_DEFAULT;
}

size_t descriptors_flows(const struct descriptors *ds, const struct conf *c)
{
	size_t other = warms_descriptors(c) + probes_descriptors(c) + dnsbl_descriptors(c) +
		       UDP_DESCRIPTORS * descriptors_udp(ds, c);

	return other + 2 <= ds->left ? (ds->left - other) / 2 : 0;
}

int descriptors_check(const struct descriptors *ds, const struct conf *c, const char *file,
		      struct diag *d)
{
	size_t flows = descriptors_flows(ds, c);

	if (flows == 0)
		return diag_set(d, EINVAL, file, 0,
				"%zu connections kept ready (option \"warm\"), %zu descriptors "
				"for probes and two for each of %zu UDP associations are more than "
				"the limit of descriptors (ulimit -n) leaves",
				warms_descriptors(c), probes_descriptors(c),
				descriptors_udp(ds, c));
	if (c->limits.max_flows <= flows)
		return 0;
	return diag_set(
		d, EINVAL, file, 0,
		"option \"limits.max_flows\": %u is more than the %zu flows that the limit of "
		"descriptors (ulimit -n) allows",
		c->limits.max_flows, flows);
}
