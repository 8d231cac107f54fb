/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What tests of names and connections stand on: a loop, a name server in it, and a resolver that asks
 * that one. A test that hangs is stopped, and one that leaves a descriptor open fails. Include after
 * <cmocka.h>.
 */
#include "daemon/net/resolve.h"
#include "tests/unit/fake_dns.h"
#include "tests/unit/fds.h"

#define GUARD_DELAY_MS 20000

static struct loop loop;
static struct fake_dns dns;
static struct resolver *resolver;
static struct timer guard;
static bool guard_fired;
static unsigned fds_before;

static inline void on_guard(struct timer *t)
{
	(void)t;
	guard_fired = true;
	loop_stop(&loop);
}

static inline void on_pause(struct timer *t)
{
	(void)t;
	loop_stop(&loop);
}

static inline void run_for(uint64_t ms)
{
	struct timer t;

	timer_init(&t);
	loop_timer(&loop, &t, ms, on_pause);
	loop_run(&loop);
}

/* 0, or -1 as cmocka takes it. */
static inline int net_open(const struct fake_name *names, size_t n, const struct sock_options *o)
{
	struct addr_list servers = {.addrs = &dns.addr, .n = 1};

	fds_before = fds_open();
	guard_fired = false;
	if (loop_init(&loop, NULL) < 0)
		return -1;
	timer_init(&guard);
	loop_timer(&loop, &guard, GUARD_DELAY_MS, on_guard);
	fake_dns_open(&dns, &loop, names, n);
	return resolver_new(&loop, &servers, o, &resolver, NULL) < 0 ? -1 : 0;
}

static inline int net_close(void **state)
{
	(void)state;
	resolver_free(resolver);
	fake_dns_close(&dns);
	timer_cancel(&guard);
	loop_destroy(&loop);
	return guard_fired || fds_open() != fds_before ? -1 : 0;
}
