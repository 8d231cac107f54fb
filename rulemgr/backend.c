/* SPDX-License-Identifier: MIT */
#include "rulemgr/backend.h"

#include <errno.h>
#include <string.h>

#include "rulemgr/iptables_run.h"
#include "rulemgr/kernel.h"

static int ask_nft(void)
{
	struct kernel k;
	int r = kernel_open(&k, NULL);

	if (r == 0)
		kernel_close(&k);
	return r;
}

/* The file lists one table a line; missing or empty where iptables-legacy was never used here. */
static void read_legacy_tables(int family, char *out, size_t cap)
{
	static const char *const names[] = {
		[LISTENERS_IPV4] = "/proc/self/net/ip_tables_names",
		[LISTENERS_IPV6] = "/proc/self/net/ip6_tables_names",
	};
	FILE *f = fopen(names[family], "re");
	struct strbuf sb;
	char line[64];

	strbuf_init(&sb, out, cap);
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		strbuf_printf(&sb, "%s%s", sb.len > 0 ? " " : "", line);
	}
	if (f != NULL)
		fclose(f);
}

void backends_read(struct backends *b)
{
	static const char *const save[] = {"iptables-save", "ip6tables-save"};
	static const char *const restore[] = {"iptables-restore", "ip6tables-restore"};
	char path[PATH_MAX];

	*b = (struct backends){.nft = ask_nft()};
	for (int f = 0; f < LISTENERS_FAMILIES; f++) {
		read_legacy_tables(f, b->legacy_tables[f], sizeof(b->legacy_tables[f]));
		if (iptables_find(save[f], path, sizeof(path)) == NULL ||
		    iptables_find(restore[f], path, sizeof(path)) == NULL)
			continue;
		b->iptables[f] = true;
		snprintf(b->path[f], sizeof(b->path[f]), "%s", path);
		iptables_variant(restore[f], b->variant[f], sizeof(b->variant[f]));
	}
}

/* Missing privilege is not missing nf_tables. */
static bool has_nft(const struct backends *b)
{
	return b->nft == 0 || b->nft == -EPERM;
}

static void put_iptables(const struct backends *b, struct strbuf *sb)
{
	strbuf_printf(sb, "%s (%s)", b->path[LISTENERS_IPV4],
		      b->variant[LISTENERS_IPV4][0] != '\0' ? b->variant[LISTENERS_IPV4]
							    : "variant unknown");
	if (!b->iptables[LISTENERS_IPV6])
		strbuf_puts(sb, ", no ip6tables");
}

static int choose_nft(enum redirect_backend wanted, const struct backends *b, struct strbuf *why)
{
	const char *four = b->legacy_tables[LISTENERS_IPV4],
		   *six = b->legacy_tables[LISTENERS_IPV6];

	if (!has_nft(b)) {
		strbuf_printf(why, "backend = \"nft\", but this kernel has no nf_tables (%s)",
			      strerror(-b->nft));
		return -EOPNOTSUPP;
	}
	strbuf_puts(why, wanted == REDIRECT_BACKEND_NFT ? "as wanted" : "nf_tables answers");
	if (four[0] != '\0' || six[0] != '\0')
		strbuf_printf(why, "; legacy tables of iptables beside it: %s%s%s", four,
			      four[0] != '\0' && six[0] != '\0' ? ", IPv6 " : "", six);
	return REDIRECT_BACKEND_NFT;
}

int backend_choose(enum redirect_backend wanted, const struct backends *b, char *why, size_t cap)
{
	struct strbuf sb;

	strbuf_init(&sb, why, cap);
	if (wanted == REDIRECT_BACKEND_NFT || (wanted == REDIRECT_BACKEND_AUTO && has_nft(b)))
		return choose_nft(wanted, b, &sb);
	if (!b->iptables[LISTENERS_IPV4]) {
		strbuf_printf(&sb, "%s iptables is not installed",
			      wanted == REDIRECT_BACKEND_IPTABLES ? "backend = \"iptables\", but"
								  : "no nf_tables, and");
		return -EOPNOTSUPP;
	}
	if (wanted == REDIRECT_BACKEND_IPTABLES)
		strbuf_puts(&sb, "as wanted, by ");
	else
		strbuf_printf(&sb, "no nf_tables (%s), so by ", strerror(-b->nft));
	put_iptables(b, &sb);
	return REDIRECT_BACKEND_IPTABLES;
}
