/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A name server for tests, on 127.0.0.1 and a port of its own, within the loop of the test: UDP,
 * and TCP for answers that are marked as cut. It answers from a table; a name that is not there
 * does not exist. Include after <cmocka.h>.
 */
#include <string.h>
#include <unistd.h>

#include "daemon/core/loop.h"
#include "daemon/net/sock.h"

#define FAKE_ADDRS_MAX 33
#define FAKE_REPLY_MAX 1024

struct fake_name {
	const char *name; /* one that begins with '.' is the end of many names */
	int family;
	unsigned ttl; /* of the addresses; 0: 60 s */
	unsigned
		alias_ttl; /* they are those of another name, to which this one leads for so long */
	unsigned delay_ms;
	bool silent;
	bool cut; /* over UDP, so that TCP is asked */
	int rcode;
	const char *addrs[FAKE_ADDRS_MAX];
};

struct fake_reply {
	struct list node;
	struct timer timer;
	struct fake_dns *dns;
	struct sockaddr_in to;
	size_t len;
	unsigned char bytes[FAKE_REPLY_MAX];
};

struct fake_dns {
	struct loop *loop;
	struct source *udp, *tcp, *conn;
	struct addr addr;
	const struct fake_name *names;
	size_t n_names;
	struct list replies; /* held back */
	int rcode;           /* of every answer, while it is not 0 */
	bool silent;         /* nobody is answered */
	unsigned n_udp, n_tcp, n_sent;
};

static inline void fake_send(struct fake_reply *reply)
{
	struct fake_dns *dns = reply->dns;

	if (sendto(dns->udp->fd, reply->bytes, reply->len, 0, (struct sockaddr *)&reply->to,
		   sizeof(reply->to)) == (ssize_t)reply->len)
		dns->n_sent++;
	list_del(&reply->node);
	free(reply);
}

static inline void fake_on_delay(struct timer *t)
{
	fake_send(container_of(t, struct fake_reply, timer));
}

/* The question's name as text; returns the offset behind the question. */
static inline size_t fake_question(const unsigned char *query, char *name, int *type)
{
	size_t at = 12, out = 0;

	while (query[at] != 0) {
		size_t n = query[at++];

		if (out > 0)
			name[out++] = '.';
		memcpy(name + out, query + at, n);
		out += n;
		at += n;
	}
	name[out] = '\0';
	*type = query[at + 1] << 8 | query[at + 2];
	return at + 5;
}

static inline bool fake_is(const char *pattern, const char *name)
{
	size_t n = strlen(name), end = strlen(pattern);

	return strcmp(pattern, name) == 0 ||
	       (pattern[0] == '.' && n > end && strcmp(name + n - end, pattern) == 0);
}

/* The head of a record that answers the question, or with `alias` what that leads to. Returns its length. */
static inline size_t fake_record(unsigned char *out, unsigned char alias, int type, unsigned ttl,
				 size_t len)
{
	memcpy(out,
	       (unsigned char[]){0xc0, alias, 0, (unsigned char)type, 0, 1,
				 (unsigned char)(ttl >> 24), (unsigned char)(ttl >> 16),
				 (unsigned char)(ttl >> 8), (unsigned char)ttl, 0,
				 (unsigned char)len},
	       12);
	return 12;
}

static inline size_t fake_answer(struct fake_dns *dns, const unsigned char *query, bool tcp,
				 unsigned char *out, const struct fake_name **found)
{
	static const unsigned char alias[] = "\x02to\xc0\x0c"; /* to.NAME */
	unsigned char owner = 12, n_answers = 0;
	char name[256];
	int type;
	size_t len = fake_question(query, name, &type);

	*found = NULL;
	for (size_t i = 0; i < dns->n_names; i++)
		if (fake_is(dns->names[i].name, name) &&
		    (dns->names[i].family == AF_INET ? 1 : 28) == type)
			*found = &dns->names[i];
	memcpy(out, query, len);
	memset(out + 6, 0, 6);
	out[2] = 0x81;
	out[3] = 0x80 | (*found != NULL ? (*found)->rcode : 3);
	if (dns->rcode != 0) {
		out[3] = (unsigned char)(0x80 | dns->rcode);
		return len;
	}
	if (*found != NULL && (*found)->cut && !tcp) {
		out[2] |= 0x02;
		return len;
	}
	if (*found != NULL && (*found)->alias_ttl > 0) {
		len += fake_record(out + len, owner, 5, (*found)->alias_ttl, sizeof(alias) - 1);
		assert_true(len < 256);
		owner = (unsigned char)len;
		memcpy(out + len, alias, sizeof(alias) - 1);
		len += sizeof(alias) - 1;
		n_answers++;
	}
	for (size_t i = 0; *found != NULL && i < FAKE_ADDRS_MAX && (*found)->addrs[i] != NULL;
	     i++) {
		struct addr a;

		assert_int_equal(addr_parse(&a, (*found)->addrs[i]), 0);
		len += fake_record(out + len, owner, type, (*found)->ttl > 0 ? (*found)->ttl : 60,
				   addr_len(&a));
		memcpy(out + len, a.ip, addr_len(&a));
		len += addr_len(&a);
		n_answers++;
	}
	out[7] = n_answers;
	return len;
}

static inline void fake_on_udp(struct source *src, uint32_t events)
{
	struct fake_dns *dns = src->owner;
	unsigned char query[512];
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	const struct fake_name *found;
	struct fake_reply *reply;

	(void)events;
	if (recvfrom(src->fd, query, sizeof(query), 0, (struct sockaddr *)&from, &from_len) < 17)
		return;
	dns->n_udp++;
	reply = calloc(1, sizeof(*reply));
	assert_non_null(reply);
	reply->dns = dns;
	reply->to = from;
	reply->len = fake_answer(dns, query, false, reply->bytes, &found);
	if (dns->silent || (found != NULL && found->silent)) {
		free(reply);
		return;
	}
	timer_init(&reply->timer);
	list_add_tail(&dns->replies, &reply->node);
	if (found != NULL && found->delay_ms > 0)
		loop_timer(dns->loop, &reply->timer, found->delay_ms, fake_on_delay);
	else
		fake_send(reply);
}

static inline void fake_hang_up(struct fake_dns *dns)
{
	int fd = dns->conn->fd;

	loop_unwatch(dns->loop, dns->conn);
	dns->conn = NULL;
	close(fd);
}

/* The whole query is there at once: it is small, and sent in one piece. */
static inline void fake_on_conn(struct source *src, uint32_t events)
{
	struct fake_dns *dns = src->owner;
	unsigned char query[514], out[2 + FAKE_REPLY_MAX];
	const struct fake_name *found;
	size_t len;

	(void)events;
	if (recv(src->fd, query, sizeof(query), 0) >= 19) {
		len = fake_answer(dns, query + 2, true, out + 2, &found);
		out[0] = (unsigned char)(len >> 8);
		out[1] = (unsigned char)len;
		assert_int_equal(send(src->fd, out, len + 2, MSG_NOSIGNAL), len + 2);
	}
	fake_hang_up(dns);
}

static inline void fake_on_tcp(struct source *src, uint32_t events)
{
	struct fake_dns *dns = src->owner;
	int fd = accept4(src->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	assert_true(fd >= 0);
	assert_null(dns->conn); /* one after another */
	dns->n_tcp++;
	dns->conn = loop_watch(dns->loop, fd, EPOLLIN, fake_on_conn, dns);
	assert_non_null(dns->conn);
}

static inline void fake_dns_open(struct fake_dns *dns, struct loop *loop,
				 const struct fake_name *names, size_t n)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), tcp = -1;

	*dns = (struct fake_dns){.loop = loop, .names = names, .n_names = n};
	list_init(&dns->replies);
	assert_int_equal(addr_parse(&dns->addr, "127.0.0.1"), 0);
	assert_true(udp >= 0);
	for (unsigned tries = 0; tries < 50 && tcp < 0; tries++) {
		tcp = sock_listen(&dns->addr, &(struct sock_listen_options){0}, NULL);
		assert_true(tcp >= 0);
		dns->addr = sock_local(tcp);
		len = addr_to_sockaddr(&dns->addr, &ss);
		if (bind(udp, (struct sockaddr *)&ss, len) < 0) {
			close(tcp);
			tcp = -1;
			dns->addr.port = 0;
		}
	}
	assert_true(tcp >= 0);
	dns->udp = loop_watch(loop, udp, EPOLLIN, fake_on_udp, dns);
	dns->tcp = loop_watch(loop, tcp, EPOLLIN, fake_on_tcp, dns);
	assert_non_null(dns->udp);
	assert_non_null(dns->tcp);
}

static inline void fake_dns_close(struct fake_dns *dns)
{
	struct list *node;

	while ((node = list_pop(&dns->replies)) != NULL) {
		struct fake_reply *reply = container_of(node, struct fake_reply, node);

		timer_cancel(&reply->timer);
		free(reply);
	}
	if (dns->conn != NULL)
		fake_hang_up(dns);
	loop_unwatch(dns->loop, dns->udp);
	close(dns->udp->fd);
	loop_unwatch(dns->loop, dns->tcp);
	close(dns->tcp->fd);
}
