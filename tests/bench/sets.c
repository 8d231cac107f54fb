/* SPDX-License-Identifier: MIT */
/*
 * What a rule costs whose lists are large: seconds to load, bytes, and nanoseconds for one decision, for a list of a
 * hundred entries and for a large one in the same run.
 *
 *	sets [domains|networks4|networks6 ENTRIES]...
 *
 * One JSON object a line. The lists and the questions are the same in every run.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <time.h>

#include "policy/name.h"
#include "policy/rules.h"
#include "policy/strbuf.h"
#include "tests/bench/common.h"

#define QUESTIONS 65536 /* more than a cache holds the answers of */
#define SECONDS   0.3   /* of each measurement, at least */

enum kind { DOMAINS, NETWORKS4, NETWORKS6 };
static const char *const kind_names[] = {"domains", "networks4", "networks6", NULL};

/* HIT: an entry, or something in it. MISS: like one, but none. DEEP: ten labels, of which no entry is. */
enum question { HIT, MISS, DEEP, N_QUESTIONS };
static const char *const question_names[] = {"hit", "miss", "deep"};

static uint64_t state;

static uint32_t next_random(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

/* CPU time: the machine may have other work. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint32_t scattered(uint64_t i)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;

	return (uint32_t)((x ^ x >> 29) * 0xbf58476d1ce4e5b9u >> 32);
}

/* The i-th of names that look like those on lists; the lists' own have even numbers. Two or three labels. */
static void name_at(uint64_t i, char out[64])
{
	static const char *const tops[] = {"com", "net", "org", "info", "de",    "co.jp",
					   "io",  "ru",  "xyz", "top",  "co.uk", "example"};
	uint32_t x = scattered(i);
	size_t n = 5 + x % 9;
	char label[16];

	for (size_t k = 0; k < n; k++)
		label[k] = (char)('a' + scattered(i * 16 + k) % 26);
	label[n] = '\0';
	snprintf(out, 64, "%s%s%" PRIu64 ".%s", x & 64 ? "ads." : "", label, i,
		 tops[(x >> 8) % ARRAY_LEN(tops)]);
}

/* The i-th network: its first address, and how many of its bits count. In those of the lists one bit is zero. */
static unsigned network_at(enum kind kind, uint64_t i, bool listed, uint8_t ip[16])
{
	uint32_t x = scattered(i), y = scattered(i + (UINT64_C(1) << 40));
	const size_t marked = kind == NETWORKS4 ? 1 : 3;

	memset(ip, 0, 16);
	memcpy(ip, &x, 4);
	if (kind == NETWORKS4) {
		ip[0] = (uint8_t)(11 + ip[0] % 200);
		ip[3] = (uint8_t)y;
	} else {
		ip[0] = (uint8_t)(0x20 + ip[0] % 16); /* what is given out lies close together */
		ip[1] &= 3;
		memcpy(ip + 4, &y, 4);
	}
	ip[marked] = (uint8_t)((ip[marked] & 0xfe) | !listed);
	if (kind == NETWORKS4)
		return y % 16 == 0 ? 32 : y % 16 < 12 ? 24 : 16 + y / 16 % 8;
	return y % 4 == 0 ? 32 : 48;
}

static void put_entry(struct strbuf *text, enum kind kind, uint64_t i)
{
	char name[64], shown[PREFIX_TEXT_MAX];
	struct prefix p = {.family = kind == NETWORKS4 ? AF_INET : AF_INET6};

	if (kind == DOMAINS) {
		name_at(2 * i, name);
		strbuf_puts(text, i % 2 == 0 ? "." : "");
		strbuf_puts(text, name);
	} else {
		p.len = (uint8_t)network_at(kind, i, true, p.ip);
		for (unsigned bit = p.len; bit < 128; bit++)
			p.ip[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
		strbuf_puts(text, prefix_format(&p, shown, sizeof(shown)));
	}
	strbuf_putc(text, '\n');
}

struct questions {
	struct addr dest[QUESTIONS];
	char name[QUESTIONS][96];
};

static void ask(struct questions *q, enum kind kind, enum question what, size_t n)
{
	static const char *const before[] = {"", "", "a.b.c.d.e.f.g.h."};
	char name[64];
	uint8_t ip[16];

	for (size_t k = 0; k < QUESTIONS; k++) {
		uint64_t i = 2 * (uint64_t)(next_random() % n);

		if (kind == DOMAINS) {
			name_at(what == HIT ? i : i + 1, name);
			snprintf(q->name[k], sizeof(q->name[k]), "%s%s", before[what], name);
			continue;
		}
		network_at(kind, i / 2, what == HIT, ip);
		q->dest[k] = addr_from_bytes(ip, kind == NETWORKS4 ? 4 : 16, 443);
	}
}

/* Nanoseconds for a decision, in the best of several rounds; *matched is how many of the questions the rule said yes to. */
static double decide(const struct flow_rules *rules, enum kind kind, const struct questions *q,
		     size_t *matched)
{
	const uint8_t v4[4] = {10, 0, 0, 1};
	struct addr client = addr_from_bytes(v4, 4, 0), none = {.family = AF_UNSPEC};
	double start = now(), began, round, best = 1e9;

	do {
		*matched = 0;
		began = now();
		for (size_t k = 0; k < QUESTIONS; k++) {
			struct flow_facts f = {.client = &client,
					       .dest = kind == DOMAINS ? &none : &q->dest[k],
					       .port = 443,
					       .name = kind == DOMAINS ? q->name[k] : NULL};
			struct rule_verdict v;

			rules_match(rules, &f, &v);
			*matched += v.rule != RULE_NONE;
		}
		round = now() - began;
		best = round < best ? round : best;
	} while (now() - start < SECONDS);
	return best * 1e9 / QUESTIONS;
}

static void load(struct flow_rule *r, enum kind kind, size_t n, double *seconds)
{
	struct strbuf text;
	struct diag d;
	double start;
	int rc;

	strbuf_init_heap(&text);
	for (size_t i = 0; i < n; i++)
		put_entry(&text, kind, i);
	start = now();
	rc = kind == DOMAINS ? rule_compile(r, text.data, text.len, NULL, 0, &d)
			     : rule_compile(r, NULL, 0, text.data, text.len, &d);
	*seconds = now() - start;
	if (rc < 0 || text.truncated) {
		fprintf(stderr, "sets: %s\n", rc < 0 ? d.text : "out of memory");
		exit(EXIT_FAILURE);
	}
	strbuf_free(&text);
}

static void measure(enum kind kind, size_t n)
{
	static struct questions questions;
	struct flow_rule rule = {.action = RULE_REFUSE};
	const struct flow_rules rules = {.rules = &rule, .n = 1};
	double seconds;
	size_t bytes;

	state = 1;
	load(&rule, kind, n, &seconds);
	bytes = kind == DOMAINS ? domain_set_bytes(rule.domain_set)
				: prefix_set_bytes(rule.network_set);
	printf("{\"kind\": \"%s\", \"entries\": %zu, \"load_s\": %.4f, \"bytes\": %zu",
	       kind_names[kind], n, seconds, bytes);
	for (enum question what = HIT; what < N_QUESTIONS; what++) {
		size_t matched;
		double ns;

		if (what == DEEP && kind != DOMAINS)
			continue;
		ask(&questions, kind, what, n);
		ns = decide(&rules, kind, &questions, &matched);
		if (matched != (what == HIT ? QUESTIONS : 0)) {
			fprintf(stderr, "sets: %zu of %d %s matched\n", matched, QUESTIONS,
				question_names[what]);
			exit(EXIT_FAILURE);
		}
		printf(", \"%s_ns\": %.1f", question_names[what], ns);
	}
	printf("}\n");
	rule_release(&rule);
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		long n = strtol(argv[i + 1], NULL, 10);
		enum kind kind = DOMAINS;

		while (kind_names[kind] != NULL && strcmp(kind_names[kind], argv[i]) != 0)
			kind++;
		if (kind_names[kind] == NULL || n < 1) {
			fprintf(stderr, "usage: sets [domains|networks4|networks6 ENTRIES]...\n");
			return EXIT_FAILURE;
		}
		measure(kind, (size_t)n);
	}
	return EXIT_SUCCESS;
}
