/* SPDX-License-Identifier: MIT */
#include "daemon/flow/inbound.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/flow/setup.h"
#include "daemon/proto/proxy_v2.h"
#include "policy/name.h"
#include "policy/utf8.h"

/* How long a client over its limit may take for the request that it is not served. */
#define REFUSED_MS 2000

static const struct acl *socks_acl(const struct session *s)
{
	return &s->view->plan->conf->acl;
}

/* NULL: nobody has to log in. */
static const struct users *socks_users(const struct session *s)
{
	return s->view->plan->conf->auth.users;
}

static void socks_refuse(struct session *s, enum why why, enum acl_verdict verdict)
{
	counts_acl(s, verdict);
	session_end(s, why, 0, acl_text(verdict));
}

/* Who the client is, is known: it is there itself, or a trusted proxy has named it. False: it has been ended. */
static bool socks_admit(struct session *s)
{
	/* Only the listener's address can say that a client is of this host: not where another one is named. */
	const struct addr *at =
		session_via(s) == NULL ? &s->setup->listener->addr : &s->client_addr;
	enum acl_verdict client = acl_client(socks_acl(s), &s->client_addr, at);

	if (!session_admit(s))
		return false;
	/* A stranger learns nothing, not even what is served here. A trusted proxy may look whether we are there. */
	if (client != ACL_ALLOWED && !s->setup->unnamed) {
		socks_refuse(s, WHY_CLIENT_REFUSED, client);
		return false;
	}
	s->setup->unnamed = client != ACL_ALLOWED;
	if (s->refused)
		setup_phase(s, WHY_CLIENT_LIMIT, REFUSED_MS);
	return true;
}

static void socks_start(struct session *s)
{
	const struct conf *c = s->view->plan->conf;

	s->state = SES_REQUEST;
	socks_server_init(&s->setup->server, socks_users(s) != NULL);
	/* A trusted proxy may keep connections ready, as far as it can bring them without knowing of a flow. */
	s->setup->header = acl_is_proxy(socks_acl(s), &s->client_addr);
	setup_phase(s, WHY_REQUEST_TIMEOUT,
		    s->setup->header ? c->timeouts.request : c->timeouts.handshake);
	if (!s->setup->header && socks_admit(s))
		(void)half_open_begin(s);
}

/* Handshake messages are far smaller than an empty send buffer, so one that is not taken whole is a
 * client in trouble. */
static int socks_send(struct session *s, const uint8_t *bytes, size_t n)
{
	ssize_t sent = send(s->client.source->fd, bytes, n, MSG_NOSIGNAL);

	if (sent < 0)
		return -errno;
	return (size_t)sent == n ? 0 : -EAGAIN;
}

/* What the reply names: our own end, but where a peer has connected to us that peer. */
static const struct addr *socks_bound(const struct session *s)
{
	const struct udp *u = session_udp(s);

	if (u != NULL)
		return &u->bound;
	return s->command == SOCKS5_BIND && s->remote.source != NULL ? &s->dest : &s->src_addr;
}

static int socks_answer(struct session *s, enum why why, int err)
{
	uint8_t out[SOCKS5_OUT_MAX];
	size_t n;

	if (s->state == SES_REQUEST) /* said by socks_step() */
		return why == WHY_REQUEST_BAD || why == WHY_AUTH_FAILED ? 0 : -EPROTO;
	n = socks_server_reply(&s->setup->server,
			       why == WHY_DONE ? SOCKS5_SUCCEEDED : why_reply(why, err),
			       why == WHY_DONE ? socks_bound(s) : NULL, out);
	return socks_send(s, out, n);
}

/* For the record alone, which escapes it: as it came, but as one C string. */
static void socks_keep_bad_name(char name[NAME_MAX_LEN + 1], const struct proto_dest *dest)
{
	size_t n = dest->name_len < NAME_MAX_LEN ? dest->name_len : NAME_MAX_LEN;

	for (size_t i = 0; i < n; i++)
		name[i] = dest->name[i] != '\0' ? dest->name[i] : '?';
	name[n] = '\0';
}

/* Nothing that turns a line of a log around or splits it: the controls of C0 and C1, and of Unicode those of
 * direction, the separators of lines and paragraphs, and what cannot be seen. */
static bool code_is_plain(uint32_t code)
{
	static const struct {
		uint32_t first, last;
	} others[] = {{0x00, 0x1f},     {0x7f, 0x9f},     {0x200b, 0x200f}, {0x2028, 0x202e},
		      {0x2060, 0x2069}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}};

	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (code >= others[i].first && code <= others[i].last)
			return false;
	}
	return true;
}

/* Whether it can stand in a log as it is: UTF-8 of plain characters. */
static bool user_is_normal(const char *user)
{
	size_t n = strlen(user), len;
	uint32_t code;

	for (; n > 0; user += len, n -= len) {
		len = utf8_decode(user, n, &code);
		if (len == 0 || !code_is_plain(code))
			return false;
	}
	return true;
}

/* For the record alone; one that nobody can be called is left out. */
static void socks_keep_user(struct session *s, const char *user)
{
	if (user[0] == '\0' || !user_is_normal(user) || session_rare(s) == NULL)
		return;
	s->rare->user = texts_keep(&s->engine->texts, user);
}

/* The destination is known; `name` is what was asked for, or NULL. */
static void socks_go(struct session *s, const char *name)
{
	enum acl_verdict v = acl_request(socks_acl(s), name, &s->dest, s->port);

	if (v != ACL_ALLOWED)
		return socks_refuse(s, v == ACL_PORT_DENIED ? WHY_PORT_REFUSED : WHY_SITE_REFUSED,
				    v);
	if (s->command == SOCKS5_BIND)
		bind_start(s);
	else
		setup_start(s);
}

/* The request is by name, which takes the place of what a proxy may have claimed. */
static void socks_go_by_name(struct session *s, const struct proto_dest *dest)
{
	char name[NAME_MAX_LEN + 1];
	int rc = name_normalise(dest->name, dest->name_len, name, &s->dest);

	if (rc == 1) { /* an address, spelt as a name */
		texts_drop(&s->engine->texts, s->name);
		s->name = NULL;
		s->dest.port = dest->port;
		return socks_go(s, NULL);
	}
	if (rc < 0)
		socks_keep_bad_name(name, dest);
	if (!session_keep_name(s, name, NAME_FROM_REQUEST))
		return;
	if (rc < 0)
		return session_end(s, WHY_NAME_BAD, 0,
				   "the name in the request is not a host name");
	socks_go(s, s->name);
}

/* What no version of SOCKS, but one of the PROXY protocol begins with. */
static bool is_header(uint8_t first)
{
	return first == '\r' || first == 'P';
}

static bool socks_command_is_served(const struct session *s)
{
	static const enum incoming_command commands[] = {
		[SOCKS5_CONNECT] = INCOMING_CONNECT,
		[SOCKS5_BIND] = INCOMING_BIND,
		[SOCKS5_UDP_ASSOCIATE] = INCOMING_UDP_ASSOCIATE,
	};

	return s->view->plan->conf->incoming.commands & 1u << commands[s->command];
}

/* The request is complete. */
static void socks_request(struct session *s)
{
	const struct socks_server *server = &s->setup->server;
	const struct proto_dest *dest = socks_server_dest(server);

	half_open_end(s);
	s->state = SES_DIAL;
	s->protocol = (uint8_t)socks_server_protocol(server);
	s->command = (uint8_t)socks_server_command(server);
	s->port = dest->port;
	socks_keep_user(s, socks_server_user(server));
	if (s->refused)
		return session_end(s, WHY_CLIENT_LIMIT, 0, NULL);
	if (socks_server_unknown(server))
		return session_end(s, WHY_AUTH_FAILED, 0, "SOCKS4 has no passwords");
	if (s->setup->unnamed)
		return socks_refuse(s, WHY_CLIENT_REFUSED, ACL_CLIENT);
	if (!socks_command_is_served(s))
		return session_end(s, WHY_COMMAND_REFUSED, 0, "not in incoming.commands");
	/* What a UDP association names is the client. */
	if (s->command != SOCKS5_UDP_ASSOCIATE && dest->addr.family != AF_UNSPEC) {
		s->dest = dest->addr;
		s->dest.port = dest->port;
	}
	if (s->name != NULL && acl_claim(socks_acl(s), s->name) != ACL_ALLOWED)
		return socks_refuse(s, WHY_SITE_REFUSED, ACL_SITE_DENIED);
	if (s->command == SOCKS5_UDP_ASSOCIATE)
		return udp_start(s, dest);
	if (dest->addr.family != AF_UNSPEC)
		socks_go(s, NULL);
	else
		socks_go_by_name(s, dest);
}

/* What a trusted proxy says of its client. One that says nothing asks for itself. */
static bool socks_take_header(struct session *s, const struct proxy_v2 *header)
{
	struct session_rare *rare;

	s->setup->unnamed = header->local || header->client.family == AF_UNSPEC;
	if (s->setup->unnamed)
		return true;
	rare = session_rare(s);
	if (rare == NULL) {
		session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
		return false;
	}
	rare->via = s->client_addr;
	s->client_addr = header->client;
	return header->authority[0] == '\0' ||
	       session_keep_name(s, header->authority, NAME_FROM_PROXY);
}

/* A trusted proxy may begin with a header, in either version: its first byte is none of SOCKS. True: the handshake
 * begins. */
static bool socks_header(struct session *s, struct buf *in)
{
	struct proxy_v2 header = {.local = true};
	enum proxy_v2_result r = PROXY_V2_DONE;
	size_t used = 0;

	if (in->len == 0)
		return false;
	if (is_header(buf_head(in)[0]))
		r = proxy_v2_parse(&header, buf_head(in), in->len, &used);
	if (r == PROXY_V2_FAIL)
		session_end(s, WHY_REQUEST_BAD, 0, header.error);
	if (r != PROXY_V2_DONE)
		return false;
	buf_consume(in, used);
	s->setup->header = false;
	return socks_take_header(s, &header) && socks_admit(s);
}

static void socks_client_ready(struct session *s);

static void socks_login_done(struct login *l, enum login_result r)
{
	struct session *s = container_of(l, struct setup, login)->session;

	if (r == LOGIN_OK)
		half_open_end(s);
	socks5_server_verdict(&s->setup->server.v5, login_error(r));
	socks_client_ready(s);
}

/* User and password are there. True: whether they are right is known. */
static bool socks_login(struct session *s)
{
	struct setup *p = s->setup;
	struct socks5_server *v5 = &p->server.v5;
	const struct addr client = clients_of(&s->engine->budget->clients, &s->client_addr);
	const struct login_request q = {
		.users = socks_users(s),
		.user = v5->user,
		.user_len = v5->user_len,
		.password = v5->password,
		.password_len = v5->password_len,
		.client = &client,
	};
	enum login_result r = LOGIN_OK;

	/* What is no user's name may be a password in the wrong place: it is not for the log. */
	if (users_find(q.users, q.user, q.user_len) != NULL)
		socks_keep_user(s, v5->user);
	p->session = s;
	if (!s->refused) /* who is not served anyway hears that of its request, and does not cost a crypt(3) */
		r = login_check(&p->login, &s->engine->desk, &q, socks_login_done);
	explicit_bzero(v5->password, sizeof(v5->password));
	if (r == LOGIN_WAITS)
		return false;
	if (r == LOGIN_OK)
		half_open_end(s);
	socks5_server_verdict(v5, login_error(r));
	return true;
}

/* The handshake failed in a step. */
static void socks_failed(struct session *s, const struct buf *in)
{
	const struct socks_server *server = &s->setup->server;
	const char *error = server->error;

	if (server->version == 0 && is_header(in->data[in->off]))
		error = "a PROXY protocol header, from nobody in incoming.trusted_proxies";
	session_end(s, socks_server_unknown(server) ? WHY_AUTH_FAILED : WHY_REQUEST_BAD, 0, error);
}

/* Takes the handshake as far as the bytes in `in` go. True: more bytes are wanted, or a verdict. */
static bool socks_step(struct session *s, struct buf *in)
{
	struct socks_server *server = &s->setup->server;
	uint8_t out[SOCKS5_OUT_MAX];
	enum proto_step step;
	size_t used, n_out;
	int rc;

	if (s->setup->header && !socks_header(s, in))
		return s->state == SES_REQUEST;
	for (;;) {
		step = socks_server_step(server, buf_head(in), in->len, &used, out, &n_out);
		if (socks_server_asks(server))
			explicit_bzero(buf_head(in), used);
		buf_consume(in, used);
		rc = n_out > 0 ? socks_send(s, out, n_out) : 0;
		if (rc < 0) {
			session_end_failed(s, WHY_CLIENT_GONE, -rc);
			return false;
		}
		if (step == PROTO_MORE && (!socks_server_asks(server) || !socks_login(s)))
			return true;
		if (step == PROTO_FAIL)
			socks_failed(s, in);
		if (step == PROTO_DONE || step == PROTO_FAIL)
			return false;
	}
}

/* Reads and takes the handshake on until the request is complete, a password has to be checked, the session has
 * ended, or the socket is empty. True: complete. */
static bool socks_receive(struct session *s, struct buf *in)
{
	/* Behind a password there may be the rest already. */
	if (!socks_step(s, in))
		return s->state == SES_REQUEST;
	while (!s->setup->login.waiting) {
		ssize_t n = leg_receive(&s->client, in);

		if (n == -EAGAIN)
			break;
		if (n < 0) {
			session_end_failed(s, WHY_CLIENT_GONE, (int)-n);
			break;
		}
		if (n == 0) {
			session_end(s, WHY_CLIENT_GONE, 0,
				    "the client closed before its request was complete");
			break;
		}
		if (!socks_step(s, in))
			return s->state == SES_REQUEST;
	}
	return false;
}

static void socks_client_ready(struct session *s)
{
	struct engine *e = s->engine;
	struct buf *in = s->client.pending != NULL ? s->client.pending : e->scratch;
	bool complete;

	if (s->setup->login.waiting)
		return;
	rest_take(&e->rests, &s->setup->rest, in);
	complete = socks_receive(s, in);
	if (s->state != SES_REQUEST) {
		in->off = in->len = 0;
		return;
	}
	/* What is left is part of a message, or already payload. */
	if (in == e->scratch && in->len > 0 &&
	    (complete || !rest_keep(&e->rests, &s->setup->rest, in))) {
		s->client.pending = engine_keep_scratch(e);
		if (s->client.pending == NULL)
			return session_end(s, WHY_NO_MEMORY, ENOMEM, NULL);
	}
	if (complete)
		socks_request(s);
}

const struct inbound inbound_socks = {
	.start = socks_start,
	.client_ready = socks_client_ready,
	.answer = socks_answer,
};
