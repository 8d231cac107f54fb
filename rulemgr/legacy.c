/* SPDX-License-Identifier: MIT */
/*
 * The built-in chains of iptables-legacy, which nf_tables does not list: half of the interface that
 * iptables(8) itself uses, read only (linux/netfilter_ipv4/ip_tables.h).
 */
#include "rulemgr/basechains.h"

#include <errno.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The two families differ in names and in the size of an entry; ipt_getinfo and ipt_get_entries have the
 * same form in both. */
_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "one for both");
_Static_assert(sizeof(struct ipt_get_entries) == sizeof(struct ip6t_get_entries), "one for both");

struct legacy_family {
	uint8_t family;
	int domain, level, get_info, get_entries;
	const char *names; /* of the tables that are loaded */
	size_t target;     /* where struct xt_entry_target of an entry without matches begins */
};

static const struct legacy_family families[] = {
	{NFPROTO_IPV4, AF_INET, IPPROTO_IP, IPT_SO_GET_INFO, IPT_SO_GET_ENTRIES,
	 "/proc/net/ip_tables_names", sizeof(struct ipt_entry)},
	{NFPROTO_IPV6, AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO, IP6T_SO_GET_ENTRIES,
	 "/proc/net/ip6_tables_names", sizeof(struct ip6t_entry)},
};

static const struct legacy_table {
	const char *name;
	int32_t priority;
	/* nat translates sources, later, where it is not at prerouting or output */
	bool nat;
} tables[] = {
	{"raw", -300, false}, {"mangle", -150, false}, {"nat", -100, true},
	{"filter", 0, false}, {"security", 50, false},
};

static const char *const chain_names[] = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT",
					  "POSTROUTING"};

/* The rules of a table as the kernel holds them: malloc'ed, or NULL. */
static struct ipt_get_entries *read_entries(int fd, const struct legacy_family *f,
					    const struct ipt_getinfo *info)
{
	socklen_t len = (socklen_t)(sizeof(struct ipt_get_entries) + info->size);
	struct ipt_get_entries *all = calloc(1, len);

	if (all == NULL)
		return NULL;
	memcpy(all->name, info->name, sizeof(all->name));
	all->size = info->size;
	if (getsockopt(fd, f->level, f->get_entries, all, &len) == 0)
		return all;
	free(all);
	return NULL;
}

/* The policy of a chain is the verdict of its last entry. */
static bool policy_drops(const struct legacy_family *f, const struct ipt_getinfo *info,
			 const struct ipt_get_entries *all, unsigned hook)
{
	struct xt_standard_target target;
	size_t at = info->underflow[hook] + f->target;

	if (all == NULL || at + sizeof(target) > info->size)
		return false;
	memcpy(&target, (const char *)all->entrytable + at, sizeof(target));
	return target.verdict == -NF_DROP - 1;
}

static int add_table(struct base_chains *out, const struct legacy_family *f,
		     const struct legacy_table *t, int fd)
{
	struct ipt_getinfo info = {0};
	struct ipt_get_entries *all;
	socklen_t len = sizeof(info);
	int r = 0;

	strcpy(info.name, t->name);
	if (getsockopt(fd, f->level, f->get_info, &info, &len) < 0)
		return 0; /* gone again, or hidden from us: then nobody can tell */
	all = read_entries(fd, f, &info);
	for (unsigned hook = 0; r == 0 && hook < NF_INET_NUMHOOKS; hook++) {
		bool rules = info.hook_entry[hook] != info.underflow[hook];
		bool drops = policy_drops(f, &info, all, hook);
		bool source = t->nat && hook != NF_INET_PRE_ROUTING && hook != NF_INET_LOCAL_OUT;
		struct base_chain *c;

		if ((info.valid_hooks & 1U << hook) == 0 || (!rules && !drops))
			continue;
		c = base_chains_add(out);
		if (c == NULL) {
			r = -ENOMEM;
			break;
		}
		*c = (struct base_chain){.family = f->family,
					 .hook = (uint8_t)hook,
					 .priority = source ? 100 : t->priority,
					 .nat = t->nat,
					 .drops = drops,
					 .legacy = true,
					 .n_rules = rules};
		strcpy(c->table, t->name);
		strcpy(c->name, chain_names[hook]);
	}
	free(all);
	return r;
}

static const struct legacy_table *find_table(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		if (strcmp(tables[i].name, name) == 0)
			return &tables[i];
	}
	return NULL;
}

int legacy_chains_add(struct base_chains *all, uint8_t family)
{
	const struct legacy_family *f = &families[family == NFPROTO_IPV6];
	FILE *names = fopen(f->names, "re");
	char name[XT_TABLE_MAXNAMELEN];
	int fd, r = 0;

	if (names == NULL)
		return 0; /* no module, so no table; or not ours to read */
	fd = socket(f->domain, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	while (fd >= 0 && r == 0 && fscanf(names, "%31s", name) == 1) {
		const struct legacy_table *t = find_table(name);

		if (t != NULL)
			r = add_table(all, f, t, fd);
	}
	if (fd >= 0)
		close(fd);
	fclose(names);
	return r;
}
