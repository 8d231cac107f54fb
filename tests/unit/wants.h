/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a test wants of transocks-rules, to begin with: the defaults of every option, or something for each.
 */
#include <string.h>

#include "rulemgr/want.h"

static inline struct want want_default(struct redirect *options)
{
	*options = (struct redirect){.priority = DEFAULT_REDIRECT_PRIORITY, .share = 100};
	return (struct want){
		.redirect = options,
		.family = {true, true},
		.port = DEFAULT_TRANSOCKS_PORT,
		.uid = 990,
		.mark = {DEFAULT_MARK_VALUE, DEFAULT_MARK_MASK},
		.tproxy_mark = {DEFAULT_TPROXY_MARK_VALUE, DEFAULT_TPROXY_MARK_MASK},
	};
}

static inline void want_add_gateway(struct want *w, const char *name)
{
	strcpy(w->gateways[w->n_gateways++], name);
}

static inline void want_add_upstream(struct want *w, const char *endpoint)
{
	BUG_ON(addr_parse_endpoint(&w->upstreams[w->n_upstreams++], endpoint) < 0);
}

/* Every option that brings a rule. */
static inline struct want want_everything(struct redirect *options)
{
	static struct prefix bypass[] = {
		{.family = AF_INET, .len = 8, .ip = {11}},
		{.family = AF_INET6, .len = 16, .ip = {0x2a}},
	};
	static struct mark marks[] = {{0x20, 0x20}, {0, 0}, {7, UINT32_MAX}};
	static struct port_range ports[] = {{8000, 8999}, {80, 80}, {443, 443}, {81, 90}};
	struct want w = want_default(options);

	options->bypass = (struct prefix_list){bypass, ARRAY_LEN(bypass)};
	options->exempt_marks = (struct mark_list){marks, ARRAY_LEN(marks)};
	options->ports = (struct port_list){ports, ARRAY_LEN(ports)};
	options->share = 5;
	options->quic = REDIRECT_QUIC_REJECT;
	want_add_gateway(&w, "eth1");
	w.exempt_uids[w.n_exempt_uids++] = 7;
	w.exempt_cgroups[w.n_exempt_cgroups++] = (struct want_cgroup){"a/b/c", 77, 3};
	w.exempt_cgroups[w.n_exempt_cgroups++] = (struct want_cgroup){"a", 78, 1};
	w.exempt_cgroups[w.n_exempt_cgroups++] = (struct want_cgroup){"b", 79, 1};
	want_add_upstream(&w, "[fd91::1]:1080");
	want_add_upstream(&w, "11.0.0.1:1080");
	want_add_upstream(&w, "11.0.0.1:1080");
	return w;
}
