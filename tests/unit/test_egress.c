/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/egress/egress.h"
#include "tests/unit/log_files.h"

#define CLIENTS 10000
#define N_MAX   32

/* A configuration with a list of addresses, and its table. */
struct world {
	struct conf conf;
	struct egress_entry entries[N_MAX];
	struct egress *all;
};

static struct world world, other;

static void world_fill(struct world *w, const char *const *texts)
{
	const char *why;
	size_t n = 0;

	*w = (struct world){0};
	atomic_init(&w->conf.refs, 1);
	for (; texts[n] != NULL; n++)
		assert_int_equal(egress_entry_parse(&w->entries[n], texts[n], &why), 0);
	w->conf.egress.addresses = (struct egress_list){.entries = w->entries, .n = n};
	w->conf.egress.iface = (char *)"";
	w->conf.egress.dnsbl_domain = (char *)"";
}

static void world_open(struct world *w, const char *const *texts)
{
	world_fill(w, texts);
	assert_int_equal(egress_new(&w->conf, NULL, &w->all, NULL), 0);
}

static void world_close(struct world *w)
{
	egress_unref(w->all);
	w->all = NULL;
	assert_int_equal(atomic_load(&w->conf.refs), 1);
}

static int setup(void **state)
{
	make_dir(state);
	configure(path_of("log"), LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	return 0;
}

static int teardown(void **state)
{
	log_stop();
	return remove_dir(state);
}

static unsigned log_count(const char *part)
{
	size_t len;
	char *text = slurp_file("log", &len);
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, part)) != NULL; p++)
		n++;
	free(text);
	return n;
}

static struct addr client_of(unsigned i)
{
	const uint8_t ip[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};

	return addr_from_bytes(ip, 4, (uint16_t)(1024 + i % 60000));
}

/* The place in the table of what a client gets first in a family; -1: none. */
static int place_of(const struct egress *e, unsigned client, int family)
{
	const struct addr addr = client_of(client);
	struct egress_choice c;

	egress_choose(e, &addr, NULL, &c);
	for (size_t i = 0; i < c.list.n; i++) {
		if (c.addrs[i].family != family)
			continue;
		for (size_t k = 0; k < e->n; k++)
			if (e->items[k] == c.items[i])
				return (int)k;
	}
	return -1;
}

static void test_parse(void **state)
{
	static const struct {
		const char *text, *format; /* NULL: refused */
		unsigned weight;
	} rows[] = {
		{"203.0.113.10", "203.0.113.10", 1},
		{"203.0.113.10 weight=1", "203.0.113.10", 1},
		{"203.0.113.10 weight=2", "203.0.113.10 weight=2", 2},
		{"203.0.113.10  weight=1000", "203.0.113.10 weight=1000", 1000},
		{"203.0.113.10/32", "203.0.113.10", 1},
		{"2001:DB8::1", "2001:db8::1", 1},
		{"2001:db8::1/128 weight=3", "2001:db8::1 weight=3", 3},
		{"2001:db8:1::/64", "2001:db8:1::/64", 1},
		{"2001:db8:1::/64 weight=7", "2001:db8:1::/64 weight=7", 7},
		{"::ffff:203.0.113.10", "203.0.113.10", 1},
		{"", NULL, 0},
		{" 203.0.113.10", NULL, 0},
		{"203.0.113.10 ", NULL, 0},
		{"203.0.113.10 weight=0", NULL, 0},
		{"203.0.113.10 weight=1001", NULL, 0},
		{"203.0.113.10 weight=2 ", NULL, 0},
		{"203.0.113.10 wight=2", NULL, 0},
		{"203.0.113.10:80", NULL, 0},
		{"203.0.113.0/24", NULL, 0},
		{"2001:db8:1::1/64", NULL, 0},
		{"2000::/8", NULL, 0},
		{"0.0.0.0", NULL, 0},
		{"::", NULL, 0},
		{"example.com", NULL, 0},
	};
	char text[EGRESS_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct egress_entry e;
		const char *why = NULL;
		int r = egress_entry_parse(&e, rows[i].text, &why);

		print_message("%s\n", rows[i].text);
		assert_int_equal(r, rows[i].format != NULL ? 0 : -EINVAL);
		assert_non_null(why);
		if (r < 0)
			continue;
		assert_string_equal(egress_entry_format(&e, text, sizeof(text)), rows[i].format);
		assert_int_equal(e.weight, rows[i].weight);
	}
}

static void test_address_within_a_prefix(void **state)
{
	static const uint8_t lens[] = {16, 56, 61, 64, 100, 120, 127};
	struct prefix p;
	struct addr a, again, client;

	(void)state;
	assert_int_equal(prefix_parse(&p, "2001:db8::/16") < 0, true);
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		size_t same = 0;

		assert_int_equal(prefix_parse(&p, "2001::/16"), 0);
		p.len = lens[i];
		for (unsigned k = 0; k < 1000; k++) {
			client = client_of(k);
			a = egress_address(&p, &client);
			client.port++;
			again = egress_address(&p, &client);
			assert_true(addr_equal(&a, &again));
			assert_true(prefix_contains(&p, &a));
			assert_int_equal(a.port, 0);
			assert_memory_not_equal(a.ip, p.ip, sizeof(a.ip));
			client = client_of(k + 1);
			again = egress_address(&p, &client);
			same += addr_equal_ip(&a, &again);
		}
		assert_true(lens[i] >= 120 || same == 0);
	}
	assert_int_equal(prefix_parse(&p, "2001:db8::1"), 0);
	a = egress_address(&p, &client);
	assert_memory_equal(a.ip, p.ip, sizeof(a.ip));
}

/* The same address on other machines and in later versions: golden. */
static void test_choice_is_fixed(void **state)
{
	static const char *const texts[] = {"203.0.113.1", "203.0.113.2", "203.0.113.3",
					    "203.0.113.4", "2001:db8::1", "2001:db8:1::/64",
					    NULL};
	static const int v4[] = {0, 1, 0, 0, 3, 2, 2, 1, 2, 3, 1, 0},
			 v6[] = {5, 4, 4, 4, 4, 5, 4, 4, 5, 4, 4, 4};

	(void)state;
	world_open(&world, texts);
	for (unsigned i = 0; i < ARRAY_LEN(v4); i++) {
		assert_int_equal(place_of(world.all, i, AF_INET), v4[i]);
		assert_int_equal(place_of(world.all, i, AF_INET6), v6[i]);
	}
	world_close(&world);
}

/* The first `n` of a network, with weights 1, 2, 3, 4 in turn or with none. */
static void world_open_many(struct world *w, size_t n, bool weights)
{
	const char *texts[N_MAX + 1] = {NULL};
	char mem[N_MAX][48];

	for (size_t i = 0; i < n; i++) {
		if (weights)
			snprintf(mem[i], sizeof(mem[i]), "203.0.113.%zu weight=%zu", i + 1,
				 i % 4 + 1);
		else
			snprintf(mem[i], sizeof(mem[i]), "203.0.113.%zu", i + 1);
		texts[i] = mem[i];
	}
	world_open(w, texts);
}

/* What the busiest address has, where 1000 is its fair part. */
static size_t busiest(size_t n, bool weights, unsigned clients)
{
	size_t counts[N_MAX] = {0}, sum = 0, most = 0;

	world_open_many(&world, n, weights);
	for (unsigned i = 0; i < clients; i++)
		counts[place_of(world.all, i, AF_INET)]++;
	for (size_t i = 0; i < n; i++)
		sum += world.entries[i].weight;
	for (size_t i = 0; i < n; i++) {
		size_t part = 1000 * counts[i] * sum / (clients * (size_t)world.entries[i].weight);

		most = part > most ? part : most;
	}
	world_close(&world);
	return most;
}

static void test_spread(void **state)
{
	(void)state;
	for (size_t n = 2; n <= N_MAX; n++) {
		size_t most = busiest(n, false, CLIENTS);

		print_message("%zu addresses: %zu\n", n, most);
		assert_in_range(most, 1000, 1150);
	}
	/* A part by weight may be that of few clients, and chance is greater there: more clients. */
	for (size_t n = 4; n <= N_MAX; n *= 2) {
		size_t most = busiest(n, true, 10 * CLIENTS);

		print_message("%zu addresses with weights: %zu\n", n, most);
		assert_in_range(most, 1000, 1150);
	}
}

static void test_weights(void **state)
{
	static const char *const texts[] = {"203.0.113.1 weight=3", "203.0.113.2", NULL};
	unsigned first = 0;

	(void)state;
	world_open(&world, texts);
	for (unsigned i = 0; i < CLIENTS; i++)
		first += place_of(world.all, i, AF_INET) == 0;
	assert_in_range(first, CLIENTS * 73 / 100, CLIENTS * 77 / 100);
	world_close(&world);
}

/* Whoever had another address keeps it, whether one cannot be used or is not in the list any more. */
static void test_only_its_clients_move(void **state)
{
	static const char *const four[] = {"203.0.113.1", "203.0.113.2", "203.0.113.3",
					   "203.0.113.4", "2001:db8::1", NULL};
	static const char *const three[] = {"203.0.113.1", "203.0.113.3", "203.0.113.4", NULL};
	static const int now[] = {0, -1, 1, 2};
	unsigned moved = 0;

	(void)state;
	world_open(&world, four);
	world_open(&other, three);
	for (unsigned i = 0; i < CLIENTS; i++) {
		int was = place_of(world.all, i, AF_INET), less = place_of(other.all, i, AF_INET);

		atomic_store(&world.all->items[1]->absent, true);
		assert_int_not_equal(place_of(world.all, i, AF_INET), 1);
		if (was != 1) {
			assert_int_equal(place_of(world.all, i, AF_INET), was);
			assert_int_equal(less, now[was]);
		} else {
			assert_int_equal(less, now[place_of(world.all, i, AF_INET)]);
			moved++;
		}
		assert_int_equal(place_of(world.all, i, AF_INET6), 4);
		atomic_store(&world.all->items[1]->absent, false);
		assert_int_equal(place_of(world.all, i, AF_INET), was);
	}
	assert_in_range(moved, CLIENTS / 4 * 85 / 100, CLIENTS / 4 * 115 / 100);
	world_close(&other);
	world_close(&world);
}

/* Of 4 to 32 addresses any one goes, for each of the reasons that one can have. */
static void test_whichever_goes(void **state)
{
	(void)state;
	for (size_t n = 4; n <= N_MAX; n *= 2) {
		static int was[CLIENTS];

		world_open_many(&world, n, true);
		for (unsigned i = 0; i < CLIENTS; i++)
			was[i] = place_of(world.all, i, AF_INET);
		for (size_t gone = 0; gone < n; gone += n / 4) {
			struct egress_addr *a = world.all->items[gone];
			atomic_bool *why = gone % 8 ? &a->absent : &a->listed;
			unsigned moved = 0;

			atomic_store(why, true);
			for (unsigned i = 0; i < CLIENTS; i++) {
				bool moves = place_of(world.all, i, AF_INET) != was[i];

				assert_int_equal(moves, was[i] == (int)gone);
				moved += moves;
			}
			assert_in_range(moved, 1, CLIENTS - 1);
			atomic_store(why, false);
		}
		world_close(&world);
	}
}

/* Over a reload that reorders the list, and a restart. */
static void test_clients_keep_theirs(void **state)
{
	static const char *const texts[] = {
		"203.0.113.1", "203.0.113.2 weight=2", "203.0.113.3", "2001:db8::1",
		"2001:db8::2", "2001:db8:1::/64",      NULL};
	static const char *const again[] = {
		"2001:db8:1::/64", "203.0.113.3", "2001:db8::2", "203.0.113.2 weight=2",
		"2001:db8::1",     "203.0.113.1", NULL};
	struct world third;

	(void)state;
	world_open(&world, texts);
	world_fill(&other, again);
	assert_int_equal(egress_new(&other.conf, world.all, &other.all, NULL), 0);
	world_open(&third, again);
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct egress_choice before, reloaded, restarted;
		struct addr client = client_of(i);

		egress_choose(world.all, &client, NULL, &before);
		client.port = (uint16_t)(client.port + 7);
		egress_choose(other.all, &client, NULL, &reloaded);
		egress_choose(third.all, &client, NULL, &restarted);
		assert_int_equal(before.list.n, 6);
		for (size_t k = 0; k < 6; k++) {
			assert_true(addr_equal(&before.addrs[k], &reloaded.addrs[k]));
			assert_true(addr_equal(&before.addrs[k], &restarted.addrs[k]));
		}
	}
	world_close(&third);
	world_close(&other);
	world_close(&world);
}

/* In the list are all that may be tried, of both families; what cannot be used comes last. */
static void test_list(void **state)
{
	static const char *const texts[] = {"203.0.113.1", "2001:db8::1", "203.0.113.2", NULL};
	static const char *const none[] = {NULL};
	struct addr client = client_of(1);
	struct egress_choice c;

	(void)state;
	world_open(&world, texts);
	egress_choose(world.all, &client, NULL, &c);
	assert_int_equal(c.list.n, 3);
	assert_ptr_equal(c.list.addrs, c.addrs);
	for (size_t i = 0; i < world.all->n; i++)
		atomic_store(&world.all->items[i]->absent, i != 2);
	egress_choose(world.all, &client, NULL, &c);
	assert_int_equal(c.list.n, 3);
	assert_ptr_equal(c.items[0], world.all->items[2]);
	assert_ptr_equal(c.items[1], world.all->items[0]);
	assert_ptr_equal(c.items[2], world.all->items[1]);
	world_close(&world);

	world_open(&world, none);
	egress_choose(world.all, &client, NULL, &c);
	assert_int_equal(c.list.n, 0);
	world_close(&world);
}

/* The first list of users that has the client; an address that is in two lists is one address. */
static void test_users(void **state)
{
	static const char *const texts[] = {"203.0.113.1", "203.0.113.2", NULL};
	static const char *const nets[] = {"10.0.0.4/32", "10.0.0.0/29", "fd00::/8"};
	struct egress_entry entries[3];
	struct prefix prefixes[3];
	struct egress_users users[3] = {0};
	struct diag d = {0};
	const char *why;

	(void)state;
	world_fill(&world, texts);
	for (size_t i = 0; i < ARRAY_LEN(users); i++) {
		assert_int_equal(prefix_parse(&prefixes[i], nets[i]), 0);
		assert_int_equal(
			egress_entry_parse(&entries[i], i == 0 ? texts[0] : "203.0.113.3", &why),
			0);
		users[i].clients = (struct prefix_list){.prefixes = &prefixes[i], .n = 1};
		users[i].addresses = (struct egress_list){.entries = &entries[i], .n = 1};
	}
	world.conf.egress.users = users;
	world.conf.egress.n_users = ARRAY_LEN(users);
	for (unsigned again = 0; again < 2; again++)
		assert_int_equal(egress_finish(&world.conf.egress, "file", &d), 0);
	assert_int_equal(egress_new(&world.conf, NULL, &world.all, NULL), 0);
	assert_int_equal(world.all->n, 3);
	assert_int_equal(place_of(world.all, 4, AF_INET), 0);
	for (unsigned i = 0; i < 100; i++) {
		if (i < 8 && i != 4)
			assert_int_equal(place_of(world.all, i, AF_INET), 2);
		else
			assert_in_range(place_of(world.all, i, AF_INET), 0, 1);
	}
	world_close(&world);
	egress_release(&world.conf.egress);
	users[1].clients.n = 0;
	users[1].place = (struct place){.file = "f.toml", .line = 7};
	assert_int_equal(egress_finish(&world.conf.egress, "file", &d), -EINVAL);
	assert_int_equal(d.line, 7);
	assert_non_null(strstr(d.text, "clients"));
	egress_release(&world.conf.egress);
}

/* By login: all that is written of a table must match, and the first table counts. */
static void test_users_by_login(void **state)
{
	static const char *const texts[] = {"203.0.113.1", NULL};
	char *both[] = {(char *)"alice", (char *)"bob"}, *carol[] = {(char *)"carol"};
	const struct {
		const char *net; /* "": any */
		struct string_list users;
	} tables[] = {
		{"10.0.0.0/8", {both, 2}},
		{"", {carol, 1}},
		{"", {both, 1}},
		{"10.0.0.7/32", {NULL, 0}},
	};
	static const struct {
		const char *client, *user;
		size_t users;
	} rows[] = {
		{"10.0.0.1", "alice", 0},
		{"10.0.0.1", "bob", 0},
		{"10.0.0.1", "carol", 1},
		{"11.0.0.1", "carol", 1},
		{"11.0.0.1", "alice", 2},
		{"11.0.0.1", "bob", EGRESS_NO_USERS},
		{"10.0.0.7", "bob", 0},
		{"10.0.0.7", "dave", 3},
		{"10.0.0.7", NULL, 3},
		{"10.0.0.1", NULL, EGRESS_NO_USERS},
		{"10.0.0.1", "", EGRESS_NO_USERS},
		{"10.0.0.1", "bo", EGRESS_NO_USERS},
		{"10.0.0.1", "bobby", EGRESS_NO_USERS},
		{"10.0.0.1", "Bob", EGRESS_NO_USERS},
	};
	static struct user known[] = {{.name = "alice"}, {.name = "bob"}, {.name = "carol"}};
	struct users file = {.items = known, .n = ARRAY_LEN(known)};
	struct egress_users users[ARRAY_LEN(tables)] = {0};
	struct prefix prefixes[ARRAY_LEN(tables)];
	struct diag d = {0};

	(void)state;
	world_fill(&world, texts);
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		if (tables[i].net[0] != '\0') {
			assert_int_equal(prefix_parse(&prefixes[i], tables[i].net), 0);
			users[i].clients = (struct prefix_list){.prefixes = &prefixes[i], .n = 1};
		}
		users[i].users = tables[i].users;
		users[i].addresses = world.conf.egress.addresses;
		users[i].place = (struct place){.file = "f.toml", .line = 10 + (int)i};
	}
	world.conf.egress.users = users;
	world.conf.egress.n_users = ARRAY_LEN(users);
	assert_int_equal(egress_finish(&world.conf.egress, "file", &d), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct addr client;

		addr_parse(&client, rows[i].client);
		assert_true(egress_users_of(&world.conf.egress, &client, rows[i].user) ==
			    rows[i].users);
	}
	assert_int_equal(egress_check_users(&world.conf.egress, &file, &d), 0);
	file.n = 2;
	assert_int_equal(egress_check_users(&world.conf.egress, &file, &d), -EINVAL);
	assert_int_equal(d.line, 11);
	assert_non_null(strstr(d.text, "no user \"carol\""));
	assert_int_equal(egress_check_users(&world.conf.egress, NULL, &d), -EINVAL);
	assert_int_equal(d.line, 10);
	assert_non_null(strstr(d.text, "nobody logs in"));
	egress_release(&world.conf.egress);
}

/* Of many no more are tried than there is room for. */
static void test_tries_are_bounded(void **state)
{
	const char *texts[N_MAX + 1] = {NULL};
	char mem[N_MAX][32];
	struct addr client = client_of(1);
	struct egress_choice c;

	(void)state;
	for (size_t i = 0; i < N_MAX; i++) {
		snprintf(mem[i], sizeof(mem[i]), i % 2 ? "2001:db8::%zu" : "203.0.113.%zu", i + 1);
		texts[i] = mem[i];
	}
	world_open(&world, texts);
	egress_choose(world.all, &client, NULL, &c);
	assert_int_equal(c.list.n, 2 * EGRESS_TRIES_MAX);
	for (size_t i = 0; i < c.list.n; i++)
		assert_int_equal(c.addrs[i].family, i < EGRESS_TRIES_MAX ? AF_INET : AF_INET6);
	world_close(&world);
}

/* What is known of an address goes on, and is said once. */
static void test_reload(void **state)
{
	static const char *const before[] = {"203.0.113.1", "203.0.113.2", NULL};
	static const char *const after[] = {"203.0.113.3", "203.0.113.2 weight=5", NULL};
	struct egress *next;

	(void)state;
	world_open(&world, before);
	egress_tell(world.all->items[1], EADDRNOTAVAIL);
	egress_tell(world.all->items[1], EADDRNOTAVAIL);
	egress_take(world.all->items[1]);
	world_fill(&other, after);
	assert_int_equal(egress_new(&other.conf, world.all, &next, NULL), 0);
	assert_ptr_equal(next->items[1], world.all->items[1]);
	assert_string_equal(egress_state_word(next->items[1]), "not-local");
	assert_string_equal(egress_state_word(next->items[0]), "ok");
	world_close(&world);
	assert_int_equal(atomic_load(&next->items[1]->flows), 1);
	egress_put(next->items[1]);
	egress_moved(next->items[1], 3, 40);
	egress_moved(next->items[1], 500, 6000);
	assert_int_equal(next->items[1]->bytes_up, 503);
	assert_int_equal(next->items[1]->bytes_down, 6040);
	egress_tell(next->items[1], 0);
	egress_tell(next->items[1], 0);
	assert_string_equal(egress_state_word(next->items[1]), "ok");
	egress_unref(next);
	assert_int_equal(log_count("cannot be used"), 1);
	assert_int_equal(log_count("can be used again"), 1);
	assert_int_equal(log_count("egress=203.0.113.2"), 2);
}

/* An address of a prefix leads back to this host, without an interface that has it. */
static void test_has(void **state)
{
	static const char *const texts[] = {"203.0.113.1", "2001:db8:1::/64", NULL};
	struct addr a;

	(void)state;
	world_open(&world, texts);
	addr_parse(&a, "2001:db8:1::7");
	assert_true(egress_has(world.all, &a));
	addr_parse(&a, "2001:db8:2::7");
	assert_false(egress_has(world.all, &a));
	addr_parse(&a, "203.0.113.1"); /* an interface has that one, or nobody */
	assert_false(egress_has(world.all, &a));
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_address_within_a_prefix),
		cmocka_unit_test(test_choice_is_fixed),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_only_its_clients_move),
		cmocka_unit_test(test_whichever_goes),
		cmocka_unit_test(test_clients_keep_theirs),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_users_by_login),
		cmocka_unit_test(test_tries_are_bounded),
		cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
		cmocka_unit_test(test_has),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
