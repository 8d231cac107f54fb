/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the operator wants of a daemon, checked and ready for use. Both daemons run on the same engine
 * and so share one struct; each has its own option table (conf_transocks.c, conf_usocks.c) that says
 * which fields its file can set.
 *
 * A configuration is immutable once loaded and reference counted: a reload builds a new one, and
 * flows keep the one they began with. conf_ref() and conf_unref() may be called on any thread.
 */
#include <stdatomic.h>

#include "policy/acl.h"
#include "policy/addr.h"
#include "policy/diag.h"
#include "policy/egress.h"
#include "policy/mark.h"
#include "policy/option.h"
#include "policy/option_section.h"
#include "policy/redirect.h"
#include "policy/rules.h"
#include "policy/upstream.h"
#include "policy/users.h"

enum log_level {
	LOG_LEVEL_CRITICAL,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};
enum log_format { LOG_FORMAT_PLAIN, LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

/* How the handshake with a SOCKS5 upstream is sent. */
enum handshake_mode { HANDSHAKE_MODE_AUTO, HANDSHAKE_MODE_STRICT, HANDSHAKE_MODE_ONE_FLIGHT };
extern const char *const handshake_mode_words[];

/* What usocksd's clients may ask for, and the words of it. */
enum incoming_command {
	INCOMING_CONNECT,
	INCOMING_BIND,
	INCOMING_UDP_ASSOCIATE,
};
extern const char *const incoming_command_words[];

/* The words of the two enums, in their order, NULL at the end; and the other spellings of levels that
 * the Go programs took, as pairs of spelling and word. option_word_index() reads them. */
extern const char *const log_level_words[];
extern const char *const log_level_aliases[];
extern const char *const log_format_words[];

struct conf_program;

struct conf {
	atomic_uint refs;
	const struct conf_program *program; /* whose options these are */
	struct string_list
		files; /* that were read, in this order; at last those that options name */

	struct addr_list listen; /* what to bind; ":1081" is two entries, 0.0.0.0 and :: */
	/* `listen` names both families alike (localhost, or all addresses; so does the default):
	 * nobody asked for one of them, and one that the host lacks may be left out. */
	bool listen_default;
	struct proxy_url
		proxy_url; /* transocksd: the short form of one upstream; else PROXY_NONE */
	struct place proxy_url_place;
	enum handshake_mode handshake;
	enum redirect_mode mode;
	struct mark tproxy_mark;  /* of packets on their way to a transparent listener */
	struct redirect redirect; /* transocks-rules */
	unsigned workers;         /* 0: one per CPU */
	char *user;
	struct mark mark;
	char *control; /* path of the control socket; "": none */

	struct {
		char *filename; /* "": standard error */
		enum log_level level;
		enum log_format format;
	} log;

	struct {                   /* milliseconds; 0: no limit */
		int64_t handshake; /* usocksd: from accept to the end of the client's request */
		int64_t request;   /* usocksd: the same where the client is a trusted proxy */
		int64_t connect; /* to the upstream, or to the destination where no upstream is used */
		int64_t bind;    /* usocksd: for the peer of a BIND to come */
		int64_t greeting;   /* transocksd: the upstream's first answer */
		int64_t reply;      /* transocksd: until the upstream has reached the destination */
		int64_t flow_setup; /* all of that together */
		int64_t idle;
		int64_t udp_idle;   /* usocksd: of a UDP association */
		int64_t half_close; /* one direction ended; since the last byte */
		int64_t drain;      /* at TERM */
		int64_t keepalive;  /* TCP keepalive idle time on both legs */
	} timeouts;

	struct {                                    /* for the whole daemon */
		unsigned max_flows;                 /* 0: what the descriptor limit allows */
		unsigned max_flows_per_client;      /* 0: no limit */
		unsigned client_ipv6_bits;          /* what one client is */
		unsigned max_handshakes;            /* usocksd; 0: a part of max_flows */
		unsigned max_handshakes_per_client; /* usocksd: slow ones; 0: no limit */
		unsigned max_binds_per_client;      /* usocksd; 0: no limit */
		unsigned max_resolving;        /* usocksd: wait for name servers; 0: no limit */
		unsigned max_udp_associations; /* usocksd; 0: as descriptors allow */
	} limits;

	struct {
		struct addr_list servers; /* empty: /etc/resolv.conf */
	} dns;

	/* transocksd. `proxy_url` has become upstreams[0], in the default group. */
	struct upstream_conf *upstreams;
	size_t n_upstreams;
	struct group_conf *groups; /* groups[0] is DEFAULT_GROUP, with or without members */
	size_t n_groups;
	struct flow_rules rules;
	struct {
		struct port_list ports; /* where clients speak first and say a name */
		int64_t timeout;        /* ms; how long their first bytes are waited for */
	} sniff;

	struct { /* usocksd */
		uint16_t port;
		struct addr_list addresses; /* its names for `listen` */
		struct place addresses_place;
		unsigned commands;     /* that are served: bits (1 << enum incoming_command) */
		unsigned metrics_port; /* the short form of `metrics`; 0: none */
	} incoming;
	struct {
		struct addr_list listen;
		struct addr_list at; /* the same, or where metrics_port leads; by finish() */
		bool at_default;     /* as `listen_default`, of `at` */
	} metrics;
	struct {            /* usocksd */
		char *file; /* "": clients log in with nothing */
		struct place file_place;
		struct users *users; /* what is in it; NULL: no file */
	} auth;
	struct acl acl;            /* usocksd; acl.enforced says which program's it is */
	struct egress_conf egress; /* usocksd */
};

/* A daemon's configuration: where it is looked for and what it may contain. */
struct conf_program {
	const char *name;         /* "transocksd" */
	const char *default_file; /* "/etc/transocks.toml" */
	const char *dropin_dir;   /* "/etc/transocks.d" */
	bool file_optional;       /* the default file may be missing */
	const struct option *options;
	const struct option_section *sections; /* NULL: none */
	bool lists; /* the files that options name are read as well: credentials, domains, networks */
	/* users_parse() where there is auth.file; not linked into programs without it. */
	int (*parse_users)(const char *text, size_t n, const char *file, struct users **out,
			   struct diag *d);
	/* What no single row can check; fills what is derived. 0 or -EINVAL with `d`. Called again where flags
	 * have changed options. */
	int (*finish)(struct conf *c, const char *file, struct diag *d);
};

extern const struct conf_program conf_transocks;
/* The same file, read by transocks-rules: it may be missing, and need not name an upstream. */
extern const struct conf_program conf_transocks_rules;
extern const struct conf_program conf_usocks;

/* Reads `file` alone, or with NULL the default file and then its drop-ins (*.toml by name, a later
 * value replaces an earlier one). *c is new with one reference. 0; -EINVAL, -ENOENT, ... with `d`. */
int conf_load(const struct conf_program *p, const char *file, struct conf **c, struct diag *d);

/* What the options say where no file does; neither complete nor checked. *c is new with one reference. 0 or
 * -ENOMEM with `d`. */
int conf_load_defaults(const struct conf_program *p, struct conf **c, struct diag *d);

/* For flags of the command line that stand above the file, such as -logfile: sets the option `name` of a
 * new configuration that nobody else holds yet. 0, -EINVAL or -ENOMEM with `d` (no file or line). */
int conf_set_string(struct conf *c, const char *name, const char *value, struct diag *d);

/* The whole configuration as TOML, as --dump-config prints it. Loading it gives the same configuration. It
 * has the passwords that its files have; never for a log. */
void conf_dump(const struct conf *c, struct strbuf *out);

/* What is allowed and probably not meant, one line each, for --check. */
void conf_remarks(const struct conf *c, struct strbuf *out);

/* Two entries that want the same address and port are an error: 0 or -EINVAL with `d`. */
int addr_list_check_distinct(const struct addr_list *list, const char *option, const char *file,
			     struct diag *d);

/* For finish(): whether every address of the list has its partner of the other family (0.0.0.0 and ::,
 * 127.0.0.1 and ::1, with the same port). */
bool addr_list_has_both_families(const struct addr_list *list);

struct conf *conf_ref(struct conf *c);
/* Frees with the last reference; NULL is fine. */
void conf_unref(struct conf *c);
