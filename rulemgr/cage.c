/* SPDX-License-Identifier: MIT */
#include "rulemgr/cage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_tuple_common.h>
#include <linux/netfilter/nf_tables.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>
#include <unistd.h>

#include "rulemgr/batch.h"
#include "rulemgr/leaks.h"

#define CAGE_TRIES 10

/* First of all, and last but for conntrack's own hook, which would confirm the flow. */
#define CAGE_FIRST INT32_MIN
#define CAGE_LAST  (INT32_MAX - 1)

/* Conntrack's own is -200. */
#define CAGE_TRACKED (-199)

/* What the entry of a probe that arrives lives for, if we are killed before we remove it; else two minutes. */
#define CAGE_LIFE   "life"
#define CAGE_LIFE_S 1

/* What is being built; the first failure stays. */
struct building {
	struct batch *batch;
	const struct cage *cage;
	const struct probe *probe;
	bool life;               /* the kernel has the object for it */
	const char *chain;       /* of the rules that follow */
	struct nftnl_rule *rule; /* the one that expressions go into */
	int err;
};

static void begin_rule(struct building *b)
{
	struct nftnl_rule *n = nftnl_rule_alloc();

	b->rule = n;
	if (n == NULL || nftnl_rule_set_str(n, NFTNL_RULE_TABLE, b->cage->table) < 0 ||
	    nftnl_rule_set_str(n, NFTNL_RULE_CHAIN, b->chain) < 0) {
		b->err = -ENOMEM;
		return;
	}
	nftnl_rule_set_u32(n, NFTNL_RULE_FAMILY, NFPROTO_INET);
}

static void end_rule(struct building *b)
{
	if (b->err == 0) {
		nftnl_rule_nlmsg_build_payload(batch_message(b->batch, NFT_MSG_NEWRULE,
							     NLM_F_CREATE | NLM_F_APPEND,
							     (struct origin){0}),
					       b->rule);
		b->err = batch_end_message(b->batch);
	}
	if (b->rule != NULL)
		nftnl_rule_free(b->rule);
	b->rule = NULL;
}

/* Adds an expression to the rule, which owns it. NULL: no memory, now or before. */
static struct nftnl_expr *put(struct building *b, const char *name)
{
	struct nftnl_expr *e = b->err == 0 ? nftnl_expr_alloc(name) : NULL;

	if (e == NULL)
		b->err = -ENOMEM;
	else
		nftnl_rule_add_expr(b->rule, e);
	return e;
}

static void load_meta(struct building *b, uint32_t key)
{
	struct nftnl_expr *e = put(b, "meta");

	if (e == NULL)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
}

static void load_header(struct building *b, uint32_t base, uint32_t offset, uint32_t len)
{
	struct nftnl_expr *e = put(b, "payload");

	if (e == NULL)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
}

/* Of the connection as it was before any translation. */
static void load_original(struct building *b, uint32_t key)
{
	struct nftnl_expr *e = put(b, "ct");

	if (e == NULL)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	nftnl_expr_set_u8(e, NFTNL_EXPR_CT_DIR, IP_CT_DIR_ORIGINAL);
}

static void match(struct building *b, const void *bytes, size_t len)
{
	struct nftnl_expr *e = put(b, "cmp");

	if (e == NULL)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	if (nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, bytes, (uint32_t)len) < 0)
		b->err = -ENOMEM;
}

static void match_u8(struct building *b, uint8_t value)
{
	match(b, &value, sizeof(value));
}

static void match_port(struct building *b, uint16_t port)
{
	uint16_t wire = htons(port);

	match(b, &wire, sizeof(wire));
}

static void match_interface(struct building *b, uint32_t key, const char *name)
{
	char padded[IFNAMSIZ] = "";

	snprintf(padded, sizeof(padded), "%s", name);
	load_meta(b, key);
	match(b, padded, sizeof(padded));
}

static void match_protocols(struct building *b, uint8_t transport)
{
	load_meta(b, NFT_META_NFPROTO);
	match_u8(b, b->probe->to.family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
	load_meta(b, NFT_META_L4PROTO);
	match_u8(b, transport);
}

static void match_source(struct building *b, const struct addr *a)
{
	bool v4 = a->family == AF_INET;

	load_header(b, NFT_PAYLOAD_NETWORK_HEADER, v4 ? 12 : 8, v4 ? 4 : 16);
	match(b, a->ip, addr_len(a));
}

static void match_destination(struct building *b, const struct addr *a)
{
	bool v4 = a->family == AF_INET;

	load_header(b, NFT_PAYLOAD_NETWORK_HEADER, v4 ? 16 : 24, v4 ? 4 : 16);
	match(b, a->ip, addr_len(a));
}

static void match_source_port(struct building *b, uint16_t port)
{
	load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2);
	match_port(b, port);
}

static void match_destination_port(struct building *b, uint16_t port)
{
	load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
	match_port(b, port);
}

/* The first packet, under whatever addresses and ports, and each copy that others make of it: its
 * sequence number is a random one of our own. */
static void match_sequence(struct building *b)
{
	uint32_t wire = htonl(b->probe->sequence);

	match_protocols(b, IPPROTO_TCP);
	load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, 4, sizeof(wire));
	match(b, &wire, sizeof(wire));
}

/* The probe as it is before anybody translates it. A program attached to the control group may
 * have changed where it goes: the socket is known by its port and user alone. */
static void match_probe(struct building *b)
{
	const struct probe *p = b->probe;
	uint32_t uid = p->uid;

	match_protocols(b, IPPROTO_TCP);
	match_source_port(b, p->from.port);
	if (!probe_is_forwarded(p)) {
		load_meta(b, NFT_META_SKUID);
		match(b, &uid, sizeof(uid));
		return;
	}
	match_interface(b, NFT_META_IIFNAME, p->in);
	match_source(b, &p->from);
}

/* The probe however it was translated, if it is tracked. */
static void match_original(struct building *b)
{
	const struct probe *p = b->probe;

	match_protocols(b, IPPROTO_TCP);
	load_original(b, p->to.family == AF_INET ? NFT_CT_DST_IP : NFT_CT_DST_IP6);
	match(b, p->to.ip, addr_len(&p->to));
	load_original(b, NFT_CT_PROTO_SRC);
	match_port(b, p->from.port);
	load_original(b, NFT_CT_PROTO_DST);
	match_port(b, p->to.port);
}

static void put_verdict(struct building *b, uint32_t verdict)
{
	struct nftnl_expr *e = put(b, "immediate");

	if (e == NULL)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, verdict);
}

static void put_trace(struct building *b)
{
	struct nftnl_expr *load = put(b, "immediate"), *set = put(b, "meta");
	uint8_t on = 1;

	if (load == NULL || set == NULL)
		return;
	nftnl_expr_set_u32(load, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
	if (nftnl_expr_set(load, NFTNL_EXPR_IMM_DATA, &on, sizeof(on)) < 0)
		b->err = -ENOMEM;
	nftnl_expr_set_u32(set, NFTNL_EXPR_META_KEY, NFT_META_NFTRACE);
	nftnl_expr_set_u32(set, NFTNL_EXPR_META_SREG, NFT_REG_1);
}

static void put_table(struct building *b)
{
	struct nftnl_table *t = nftnl_table_alloc();

	if (t == NULL || nftnl_table_set_str(t, NFTNL_TABLE_NAME, b->cage->table) < 0) {
		b->err = -ENOMEM;
	} else {
		nftnl_table_set_u32(t, NFTNL_TABLE_FAMILY, NFPROTO_INET);
		nftnl_table_set_u32(t, NFTNL_TABLE_FLAGS, NFT_TABLE_F_OWNER);
		nftnl_table_nlmsg_build_payload(batch_message(b->batch, NFT_MSG_NEWTABLE,
							      NLM_F_CREATE | NLM_F_EXCL,
							      (struct origin){0}),
						t);
		b->err = batch_end_message(b->batch);
	}
	if (t != NULL)
		nftnl_table_free(t);
}

static void put_chain(struct building *b, const char *name, uint32_t hook, int32_t priority)
{
	struct nftnl_chain *c = b->err == 0 ? nftnl_chain_alloc() : NULL;

	b->chain = name;
	if (c == NULL || nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, b->cage->table) < 0 ||
	    nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name) < 0 ||
	    nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter") < 0) {
		b->err = -ENOMEM;
	} else {
		nftnl_chain_set_u32(c, NFTNL_CHAIN_FAMILY, NFPROTO_INET);
		nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
		nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, priority);
		nftnl_chain_nlmsg_build_payload(
			batch_message(b->batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE, (struct origin){0}),
			c);
		b->err = batch_end_message(b->batch);
	}
	if (c != NULL)
		nftnl_chain_free(c);
}

/* Three times, because the number is of the first packet alone, an untracked probe has no original,
 * and a translated one may have lost its port. */
static void put_drop_rules(struct building *b)
{
	begin_rule(b);
	match_sequence(b);
	put_verdict(b, NF_DROP);
	end_rule(b);
	begin_rule(b);
	match_original(b);
	put_verdict(b, NF_DROP);
	end_rule(b);
	begin_rule(b);
	match_probe(b);
	put_verdict(b, NF_DROP);
	end_rule(b);
}

static void put_trace_chain(struct building *b, const char *name, uint32_t hook)
{
	put_chain(b, name, hook, CAGE_FIRST);
	begin_rule(b);
	match_probe(b);
	put_trace(b);
	end_rule(b);
}

/* What goes over the loopback interface is no longer traced on its other side. */
static void put_local_chain(struct building *b, enum cage_end end)
{
	put_chain(b, CAGE_LOCAL_CHAIN, NF_INET_PRE_ROUTING, CAGE_FIRST);
	begin_rule(b);
	match_interface(b, NFT_META_IIFNAME, "lo");
	if (end == CAGE_ARRIVE) {
		match_sequence(b);
	} else { /* all packets of the connection */
		match_protocols(b, IPPROTO_TCP);
		match_source_port(b, b->probe->from.port);
	}
	put_trace(b);
	end_rule(b);
}

static void put_life(struct building *b)
{
	uint32_t seconds[NFTNL_CTTIMEOUT_ARRAY_MAX] = {[NFTNL_CTTIMEOUT_TCP_SYN_SENT] =
							       CAGE_LIFE_S};
	uint16_t l3 = b->probe->to.family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
	struct nftnl_obj *o = b->err == 0 ? nftnl_obj_alloc() : NULL;

	if (o == NULL) {
		b->err = -ENOMEM;
		return;
	}
	nftnl_obj_set_u32(o, NFTNL_OBJ_FAMILY, NFPROTO_INET);
	nftnl_obj_set_str(o, NFTNL_OBJ_TABLE, b->cage->table);
	nftnl_obj_set_str(o, NFTNL_OBJ_NAME, CAGE_LIFE);
	nftnl_obj_set_u32(o, NFTNL_OBJ_TYPE, NFT_OBJECT_CT_TIMEOUT);
	nftnl_obj_set_u16(o, NFTNL_OBJ_CT_TIMEOUT_L3PROTO, l3);
	nftnl_obj_set_u8(o, NFTNL_OBJ_CT_TIMEOUT_L4PROTO, IPPROTO_TCP);
	nftnl_obj_set_data(o, NFTNL_OBJ_CT_TIMEOUT_ARRAY, seconds, sizeof(seconds));
	nftnl_obj_nlmsg_build_payload(
		batch_message(b->batch, NFT_MSG_NEWOBJ, NLM_F_CREATE, (struct origin){0}), o);
	b->err = batch_end_message(b->batch);
	nftnl_obj_free(o);
}

static void limit_life(struct building *b)
{
	struct nftnl_expr *e = put(b, "objref");

	if (e == NULL)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_CT_TIMEOUT);
	if (nftnl_expr_set_str(e, NFTNL_EXPR_OBJREF_IMM_NAME, CAGE_LIFE) < 0)
		b->err = -ENOMEM;
}

/* Tells under which addresses the flow is entered, where a rule before has written others; and has it
 * traced again, where one has ended that. */
static void put_tracked_chain(struct building *b)
{
	if (b->life)
		put_life(b);
	put_chain(b, CAGE_TRACKED_CHAIN, NF_INET_LOCAL_OUT, CAGE_TRACKED);
	begin_rule(b);
	match_sequence(b);
	put_trace(b);
	if (b->life)
		limit_life(b);
	end_rule(b);
}

static void build_host(struct building *b, enum cage_end end)
{
	put_trace_chain(b, "output", NF_INET_LOCAL_OUT);
	if (end != CAGE_ALL)
		put_local_chain(b, end);
	put_chain(b, "stop", NF_INET_POST_ROUTING, CAGE_LAST);
	if (end != CAGE_ALL) {
		begin_rule(b);
		match_interface(b, NFT_META_OIFNAME, "lo");
		put_verdict(b, NF_ACCEPT);
		end_rule(b);
	}
	put_drop_rules(b);
	if (end == CAGE_ARRIVE) {
		put_tracked_chain(b);
		put_chain(b, "stop_input", NF_INET_LOCAL_IN, CAGE_LAST);
		put_drop_rules(b);
	}
}

/* Somebody's `reject`, or the kernel where it has no route, answers the probe: the answer must not
 * reach the host whose address it bears. */
static void put_mute_chain(struct building *b)
{
	const struct addr *from = &b->probe->from;
	bool v4 = from->family == AF_INET;
	/* The ICMP header, and the network header of the packet that it is about. */
	uint32_t inner_port = 8 + (v4 ? 20 : 40);

	put_chain(b, "mute", NF_INET_LOCAL_OUT, CAGE_FIRST);
	begin_rule(b);
	match_protocols(b, IPPROTO_TCP);
	match_destination(b, from);
	match_destination_port(b, from->port);
	put_verdict(b, NF_DROP);
	end_rule(b);
	begin_rule(b);
	match_protocols(b, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
	match_destination(b, from);
	load_header(b, NFT_PAYLOAD_TRANSPORT_HEADER, inner_port, 2);
	match_port(b, from->port);
	put_verdict(b, NF_DROP);
	end_rule(b);
}

static void build_forwarded(struct building *b)
{
	put_trace_chain(b, "prerouting", NF_INET_PRE_ROUTING);
	put_chain(b, "stop_input", NF_INET_LOCAL_IN, CAGE_LAST);
	put_drop_rules(b);
	put_chain(b, "stop_forward", NF_INET_FORWARD, CAGE_LAST);
	put_drop_rules(b);
	/* Copies that others make begin as packets of this host. */
	put_chain(b, "stop_copy", NF_INET_POST_ROUTING, CAGE_LAST);
	put_drop_rules(b);
	put_mute_chain(b);
}

static int cage_send(struct cage *c, const struct probe *p, enum cage_end end, bool life,
		     struct diag *d)
{
	struct building b = {.cage = c, .probe = p, .life = life};
	uint32_t generation;
	int r = kernel_generation(&c->kernel, &generation);

	if (r < 0)
		return diag_set(d, -r, NULL, 0, "netfilter does not answer: %s", strerror(-r));
	b.batch = batch_new(generation);
	if (b.batch == NULL)
		return diag_no_memory(d);
	put_table(&b);
	if (probe_is_forwarded(p))
		build_forwarded(&b);
	else
		build_host(&b, end);
	r = b.err == 0 ? batch_send(b.batch, &c->kernel, true, d) : diag_no_memory(d);
	batch_free(b.batch);
	return r;
}

int cage_open(struct cage *c, const struct probe *p, enum cage_end end, struct diag *d)
{
	struct diag why = {.text = "others change the ruleset all the time"};
	int r = kernel_open(&c->kernel, d);
	bool life = true;

	if (r < 0)
		return r;
	r = leaks_find(&c->kernel, probe_is_forwarded(p), d);
	if (r < 0) {
		cage_close(c);
		return r;
	}
	snprintf(c->table, sizeof(c->table), "transocks_test_%d", (int)getpid());
	r = -ERESTART;
	for (int try = 0; r == -ERESTART && try < CAGE_TRIES; try++) {
		usleep((useconds_t)try * 1000);
		r = cage_send(c, p, end, life, &why);
		/* Not every kernel has that object: Linux 4.19, CONFIG_NF_CONNTRACK_TIMEOUT. */
		if (life && r < 0 && r != -ERESTART) {
			life = false;
			r = -ERESTART;
		}
	}
	if (r == 0)
		return 0;
	cage_close(c);
	r = r == -ERESTART ? -EBUSY : r;
	return diag_set(d, -r, NULL, 0, "cannot put in the temporary table inet %s: %s", c->table,
			why.text);
}

void cage_close(struct cage *c)
{
	kernel_close(&c->kernel);
}
