/* SPDX-License-Identifier: MIT */
#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "daemon/admin/control.h"
#include "daemon/admin/http.h"
#include "daemon/admin/metrics.h"
#include "daemon/admin/status.h"
#include "daemon/core/priv.h"
#include "daemon/descriptors.h"
#include "daemon/egress/egress_watch.h"
#include "daemon/oneshot.h"
#include "daemon/options.h"
#include "daemon/upstream/probe.h"
#include "daemon/upstream/upstreams.h"

/* How often a daemon whose control path another one has asks for it. */
#define CONTROL_RETRY_MS 1000
/* Some may well come at once, also where there are to be few flows. */
#define HALF_OPEN_MIN 16

struct daemon {
	const struct daemon_program *program;
	struct daemon_options options;
	struct conf *conf;    /* what new flows use */
	struct plan *plan;    /* the same, with its state; NULL before start */
	struct conf *started; /* what the listeners and the user come from */
	struct loop loop;     /* the main thread's: signals, drain */
	struct source *signals;
	struct timer drain_timer;
	struct timer control_timer; /* until the control socket is ours */
	uint64_t start_ms;          /* in the time of `loop` */
	time_t started_s;           /* for people */
	struct control control;
	struct http *http; /* NULL: metrics are not served */
	struct engine *engines;
	struct budget budget;
	struct probes *probes;       /* NULL: none are wanted, or not yet */
	struct egress_watch *egress; /* the same */
	struct descriptors descriptors;
	unsigned n_engines, n_finished;
	bool draining;
	char reload_error[1024]; /* of the last reload; or "" */
};

static const char *daemon_file(const struct daemon *dm)
{
	return dm->options.file != NULL ? dm->options.file : dm->program->conf->default_file;
}

static unsigned daemon_workers(const struct conf *c)
{
	cpu_set_t set;

	if (c->workers > 0)
		return c->workers;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

static void daemon_use_limits(struct daemon *dm, const struct conf *c)
{
	size_t max_flows = c->limits.max_flows > 0 ? c->limits.max_flows
						   : descriptors_flows(&dm->descriptors, c);
	size_t half_open = max_flows / 4 > HALF_OPEN_MIN ? max_flows / 4 : HALF_OPEN_MIN;

	atomic_store(&dm->budget.max, max_flows);
	atomic_store(&dm->budget.half_open.max,
		     c->limits.max_handshakes > 0 ? c->limits.max_handshakes : half_open);
	atomic_store(&dm->budget.udp_max, descriptors_udp(&dm->descriptors, c));
}

/* One listener for each worker. A default address whose family this host lacks is left out. */
static int daemon_listen_at(struct daemon *dm, const struct addr *a, struct diag *d)
{
	struct sock_listen_options o = {.keepalive_ms = dm->conf->timeouts.keepalive,
					.first = true,
					.transparent = dm->conf->mode == REDIRECT_MODE_TPROXY};
	int rc = 0, fd = sock_listen(a, &o, d);

	if (dm->conf->listen_default && (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)) {
		log_text(LOG_LEVEL_WARNING, "%s; going on without it", d->text);
		return 0;
	}
	o.first = false;
	for (unsigned i = 0; i < dm->n_engines && rc == 0; i++) {
		if (i > 0)
			fd = sock_listen(a, &o, d);
		rc = fd < 0 ? fd : engine_listen(&dm->engines[i], fd, a, d);
	}
	return rc;
}

static int daemon_listen(struct daemon *dm, struct diag *d)
{
	const struct addr_list *list = &dm->conf->listen;
	int rc = 0;

	for (size_t i = 0; i < list->n && rc == 0; i++)
		rc = daemon_listen_at(dm, &list->addrs[i], d);
	if (rc == 0 && dm->engines[0].n_listeners == 0)
		rc = diag_set(d, EADDRNOTAVAIL, NULL, 0, "no address to listen on");
	return rc;
}

static int daemon_make_engines(struct daemon *dm, struct diag *d)
{
	unsigned n = daemon_workers(dm->conf);
	int rc = 0;

	dm->engines = calloc(n, sizeof(*dm->engines));
	if (dm->engines == NULL)
		return diag_set(d, ENOMEM, NULL, 0, "out of memory");
	dm->budget.n_workers = n;
	rc = clients_init(&dm->budget.clients, descriptors_flows(&dm->descriptors, dm->conf),
			  dm->conf->limits.client_ipv6_bits, d);
	if (rc == 0)
		rc = logins_init(&dm->budget.logins, d);
	for (unsigned i = 0; i < n && rc == 0; i++) {
		rc = engine_init(&dm->engines[i], i, dm->program->inbound, &dm->budget,
				 dm->conf->listen.n, dm->descriptors.n_pipes / n, d);
		if (rc == 0)
			dm->n_engines++;
	}
	return rc;
}

/* Without its mark our own traffic can be redirected back to us. Say so once, here, and go on: the
 * rules may skip our user, or there may be no rules on this host. */
static void daemon_check_mark(struct conf *c)
{
	struct sock_options none = {0};
	int fd, rc;

	if (c->mark.mask == 0)
		return;
	fd = sock_stream(AF_INET, &none);
	if (fd < 0)
		fd = sock_stream(AF_INET6, &none);
	if (fd < 0)
		return;
	rc = sock_mark(fd, &c->mark);
	close(fd);
	if (rc == 0)
		return;
	log_text(LOG_LEVEL_ERROR,
		 "cannot set mark 0x%x on sockets (%s): CAP_NET_RAW is needed; without the mark, "
		 "rules that "
		 "do not skip this user redirect our own connections back to us",
		 c->mark.value, strerror(-rc));
	c->mark = (struct mark){0};
}

static void daemon_remark(void *ctx, const struct upstream_conf *up, const char *text)
{
	(void)ctx;
	log_text(LOG_LEVEL_WARNING, "%s:%d: %s", up->place.file, up->place.line, text);
}

static int daemon_configure_log(const struct daemon *dm, const struct conf *c, struct diag *d)
{
	return log_configure(dm->program->conf->name, c->log.level, c->log.format, c->log.filename,
			     d);
}

/* The sockets belong to another user by now, and threads to their listeners. */
static void daemon_warn_restart(const struct daemon *dm, const struct conf *new)
{
	struct strbuf options;

	strbuf_init_heap(&options);
	option_list_restart(dm->program->conf->options, dm->started, new, &options);
	if (options.len > 0)
		log_text(LOG_LEVEL_WARNING,
			 "a reload cannot change these options, restart for that: %s",
			 options.data);
	strbuf_free(&options);
}

static void daemon_probe(struct daemon *dm)
{
	struct diag d;

	probes_free(dm->probes);
	if (probes_new(&dm->loop, dm->plan->upstreams, &dm->probes, &d) < 0)
		log_text(LOG_LEVEL_ERROR, "no probes of upstreams are sent: %s", d.text);
}

static void daemon_watch_egress(struct daemon *dm)
{
	struct diag d;

	egress_watch_free(dm->egress);
	dm->egress = NULL;
	if (dm->plan->egress != NULL &&
	    egress_watch_new(&dm->loop, dm->plan->egress, &dm->egress, &d) < 0)
		log_text(LOG_LEVEL_ERROR, "nobody looks after outgoing.addresses: %s", d.text);
}

static void daemon_reload(struct daemon *dm)
{
	struct plan *plan = NULL;
	struct conf *c = NULL;
	struct diag d;

	if (dm->draining) {
		log_text(LOG_LEVEL_WARNING, "no reload while draining");
		return;
	}
	if (options_load(&dm->options, dm->program->conf, &c, &d) != EX_OK ||
	    descriptors_check(&dm->descriptors, c, daemon_file(dm), &d) < 0 ||
	    plan_new(c, dm->plan, &plan, &d) < 0 || daemon_configure_log(dm, c, &d) < 0) {
		log_text(LOG_LEVEL_ERROR, "reload failed, the old configuration stays: %s",
			 diag_format(&d, dm->reload_error, sizeof(dm->reload_error)));
		plan_unref(plan);
		conf_unref(c);
		return;
	}
	dm->reload_error[0] = '\0';
	daemon_warn_restart(dm, c);
	c->mode = dm->started->mode; /* flows come as the listeners take them */
	daemon_check_mark(c);
	upstreams_remark_sources(c, daemon_remark, NULL);
	daemon_use_limits(dm, c);
	conf_unref(dm->conf);
	plan_unref(dm->plan);
	dm->conf = c;
	dm->plan = plan;
	daemon_probe(dm);
	daemon_watch_egress(dm);
	engines_reload(dm->engines, dm->n_engines, plan);
}

static void daemon_cut(struct daemon *dm, const char *why)
{
	log_text(LOG_LEVEL_WARNING, "%s: ending the flows that are left", why);
	for (unsigned i = 0; i < dm->n_engines; i++)
		engine_cut(&dm->engines[i]);
}

static void daemon_drain_timeout(struct timer *t)
{
	daemon_cut(container_of(t, struct daemon, drain_timer), "timeouts.drain is over");
}

static void daemon_drain(struct daemon *dm)
{
	if (dm->draining)
		return;
	dm->draining = true;
	timer_cancel(&dm->control_timer);
	probes_free(dm->probes);
	dm->probes = NULL;
	control_ending(&dm->control);
	http_drain(dm->http);
	log_text(LOG_LEVEL_INFO, "draining: no new flows, those under way may finish");
	for (unsigned i = 0; i < dm->n_engines; i++)
		engine_drain(&dm->engines[i]);
	if (dm->conf->timeouts.drain > 0)
		loop_timer(&dm->loop, &dm->drain_timer, (uint64_t)dm->conf->timeouts.drain,
			   daemon_drain_timeout);
}

static void daemon_reopen_log(void)
{
	char text[1024];
	struct diag d;

	if (log_reopen(&d) < 0)
		log_text(LOG_LEVEL_ERROR, "%s; the log goes on in the file that was open before",
			 diag_format(&d, text, sizeof(text)));
}

static void daemon_signal(struct daemon *dm, int signo)
{
	switch (signo) {
	case SIGTERM:
	case SIGINT:
		if (dm->draining)
			daemon_cut(dm, "second signal");
		daemon_drain(dm);
		break;
	case SIGQUIT:
		daemon_drain(dm);
		daemon_cut(dm, "SIGQUIT");
		break;
	case SIGHUP:
		daemon_reload(dm);
		break;
	case SIGUSR1:
		daemon_reopen_log();
		break;
	}
}

static void daemon_on_signals(struct source *src, uint32_t events)
{
	struct signalfd_siginfo si;

	(void)events;
	while (read(src->fd, &si, sizeof(si)) == sizeof(si))
		daemon_signal(src->owner, (int)si.ssi_signo);
}

/* Before any thread exists, so that all of them inherit the mask. */
static int daemon_take_signals(struct daemon *dm, struct diag *d)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
	sigset_t set;
	int fd, rc;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd >= 0)
		dm->signals = loop_watch(&dm->loop, fd, EPOLLIN, daemon_on_signals, dm);
	if (dm->signals != NULL)
		return 0;
	rc = diag_set(d, errno, NULL, 0, "cannot take signals: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return rc;
}

static void daemon_engine_finished(struct post *p)
{
	struct daemon *dm = container_of(p, struct engine, finished)->owner;

	if (++dm->n_finished == dm->n_engines)
		loop_stop(&dm->loop);
}

/* On an engine's thread. */
static void daemon_post_finished(struct engine *e)
{
	struct daemon *dm = e->owner;

	loop_post(&dm->loop, &e->finished, daemon_engine_finished);
}

static void daemon_say_ready(const struct daemon *dm)
{
	const struct engine *first = &dm->engines[0];
	char addr[ADDR_TEXT_MAX], mem[LOG_LINE_MAX], names[LOG_LINE_MAX / 4];
	struct strbuf listen;
	struct log_line line;

	if (dm->conf->acl.enforced && dm->conf->acl.allow_from.n == 0 && !dm->conf->acl.passwords)
		log_text(LOG_LEVEL_INFO,
			 "serving this host alone: incoming.allow_from names no clients");
	if (!log_begin(&line, LOG_LEVEL_INFO, "ready"))
		return;
	strbuf_init(&listen, mem, sizeof(mem));
	for (size_t i = 0; i < first->n_listeners; i++)
		strbuf_printf(&listen, "%s%s", i > 0 ? "," : "",
			      addr_format(&first->listeners[i].addr, addr, sizeof(addr)));
	log_add(&line, "version", TRANSOCKS_VERSION);
	log_add(&line, "listen", listen.data);
	if (dm->conf->n_upstreams > 0)
		log_add(&line, "upstream", plan_upstreams_text(dm->conf, names, sizeof(names)));
	log_add_uint(&line, "workers", dm->n_engines);
	log_add_uint(&line, "max_flows", atomic_load(&dm->budget.max));
	log_end(&line);
}

static void daemon_say_finished(const struct daemon *dm)
{
	struct log_line line;

	if (!log_begin(&line, LOG_LEVEL_INFO, "finished"))
		return;
	for (size_t why = 0; why < WHY_COUNT; why++) {
		uint64_t n = 0;

		for (unsigned i = 0; i < dm->n_engines; i++)
			n += dm->engines[i].ended[why];
		if (n > 0)
			log_add_uint(&line, why_rows[why].word, n);
	}
	log_end(&line);
}

/* From here on there is somebody to serve. */
static int daemon_run(struct daemon *dm, struct diag *d)
{
	unsigned n_started = 0;
	int rc = 0;

	daemon_watch_egress(dm);
	for (unsigned i = 0; i < dm->n_engines && rc == 0; i++)
		rc = engine_use(&dm->engines[i], dm->plan, d);
	while (n_started < dm->n_engines && rc == 0) {
		rc = engine_start(&dm->engines[n_started], daemon_post_finished, dm, d);
		if (rc == 0)
			n_started++;
	}
	if (rc == 0) {
		daemon_say_ready(dm);
		daemon_probe(dm);
		loop_run(&dm->loop);
	}
	for (unsigned i = 0; i < n_started; i++) {
		if (rc < 0) { /* those that came first have nobody to serve with */
			engine_drain(&dm->engines[i]);
			engine_cut(&dm->engines[i]);
		}
		pthread_join(dm->engines[i].thread, NULL);
	}
	if (rc == 0)
		daemon_say_finished(dm);
	return rc;
}

/* However far the start has come. */
static void daemon_free(struct daemon *dm)
{
	int fd;

	logins_destroy(&dm->budget.logins);
	for (unsigned i = 0; i < dm->n_engines; i++)
		engine_destroy(&dm->engines[i]);
	free(dm->engines);
	clients_destroy(&dm->budget.clients);
	control_stop(&dm->control);
	http_free(dm->http);
	probes_free(dm->probes);
	egress_watch_free(dm->egress);
	timer_cancel(&dm->drain_timer);
	timer_cancel(&dm->control_timer);
	if (dm->signals != NULL) {
		fd = dm->signals->fd;
		loop_unwatch(&dm->loop, dm->signals);
		close(fd);
	}
	if (dm->loop.wake != NULL)
		loop_destroy(&dm->loop);
	plan_unref(dm->plan);
	conf_unref(dm->conf);
	conf_unref(dm->started);
	log_stop();
}

static struct status daemon_status(const struct daemon *dm)
{
	return (struct status){
		.conf = dm->conf,
		.plan = dm->plan,
		.file = daemon_file(dm),
		.reload_error = dm->reload_error,
		.budget = &dm->budget,
		.engines = dm->engines,
		.n_engines = dm->n_engines,
		.now_ms = dm->loop.now_ms,
		.uptime_ms = dm->loop.now_ms - dm->start_ms,
		.started_s = dm->started_s,
		.draining = dm->draining,
	};
}

static void daemon_page(void *ctx, enum http_page page, struct strbuf *out)
{
	const struct status st = daemon_status(ctx);

	if (page == HTTP_METRICS)
		metrics_text(&st, out);
	else
		status_json(&st, out);
}

static void daemon_answer(void *ctx, enum control_request request, struct strbuf *out)
{
	const struct daemon *dm = ctx;
	const struct status st = daemon_status(dm);

	if (request == CONTROL_SUGGEST)
		plan_suggest(dm->plan, out);
	else if (request == CONTROL_STATUS_TEXT)
		status_text(&st, out);
	else
		status_json(&st, out);
}

static void daemon_control_failed(const struct diag *d)
{
	log_text(LOG_LEVEL_WARNING, "%s; going on without it", d->text);
}

static void daemon_control_retry(struct timer *t)
{
	struct daemon *dm = container_of(t, struct daemon, control_timer);
	struct diag d;
	int rc = control_retry(&dm->control, &d);

	if (rc == 0)
		log_text(LOG_LEVEL_INFO, "the control socket %s is ours now", dm->control.path);
	else if (rc == -EADDRINUSE)
		loop_timer(&dm->loop, t, CONTROL_RETRY_MS, daemon_control_retry);
	else
		daemon_control_failed(&d);
}

/* Flows do not depend on it, so nothing that goes wrong here keeps the daemon from its work. */
static void daemon_control(struct daemon *dm, const struct priv_user *user)
{
	char serves[CONTROL_SERVES_MAX];
	const struct control_options o = {
		.path = dm->conf->control,
		.user = user,
		.serves = serves,
		.on_request = daemon_answer,
		.ctx = dm,
	};
	struct diag d;
	int rc;

	if (o.path[0] == '\0')
		return;
	snprintf(serves, sizeof(serves), "%s %u", redirect_mode_words[dm->conf->mode],
		 dm->conf->listen.addrs[0].port);
	rc = control_start(&dm->control, &dm->loop, &o, &d);
	if (rc == -EADDRINUSE) {
		log_text(LOG_LEVEL_WARNING, "%s; trying again until it has ended", d.text);
		loop_timer(&dm->loop, &dm->control_timer, CONTROL_RETRY_MS, daemon_control_retry);
	} else if (rc < 0) {
		daemon_control_failed(&d);
	}
}

static void daemon_warn_unreadable(const struct conf *c)
{
	struct diag d;

	for (size_t i = 0; i < c->files.n; i++) {
		if (priv_may_read(c->user, c->files.strings[i], &d) < 0)
			log_text(LOG_LEVEL_WARNING, "%s", d.text);
	}
}

/* Becomes the user that needs no more than it is left with. */
static int daemon_drop(const struct daemon *dm, const struct priv_user *user, struct diag *d)
{
	int rc = 0;

	if (user->change)
		rc = log_give(user->uid, user->gid, d);
	if (rc == 0)
		rc = priv_drop(user, d);
	if (rc == 0 && user->change)
		daemon_warn_unreadable(dm->conf);
	return rc;
}

/* Up to where flows can be served. An exit code; with `d` if it is not EX_OK. */
static int daemon_start(struct daemon *dm, struct diag *d)
{
	struct priv_user user;
	int rc;

	if (priv_find(dm->conf->user, &user, d) < 0)
		return EX_NOPERM;
	descriptors_share(&dm->descriptors, dm->conf, daemon_workers(dm->conf));
	if (descriptors_check(&dm->descriptors, dm->conf, daemon_file(dm), d) < 0 ||
	    daemon_configure_log(dm, dm->conf, d) < 0)
		return EX_CONFIG;
	daemon_use_limits(dm, dm->conf);
	if (plan_new(dm->conf, NULL, &dm->plan, d) < 0 || loop_init(&dm->loop, d) < 0 ||
	    daemon_take_signals(dm, d) < 0 || daemon_make_engines(dm, d) < 0)
		return EXIT_FAILURE;
	dm->start_ms = dm->loop.now_ms;
	dm->started_s = time(NULL);
	/* Bound as root, used as nobody in particular. */
	rc = daemon_listen(dm, d);
	if (rc == 0)
		rc = http_new(&dm->loop, &dm->conf->metrics.at, dm->conf->metrics.at_default,
			      daemon_page, dm, &dm->http, d);
	if (rc < 0)
		return rc == -EPERM ? EX_NOPERM : EX_UNAVAILABLE;
	daemon_control(dm, &user);
	if (daemon_drop(dm, &user, d) < 0)
		return EX_NOPERM;
	daemon_check_mark(dm->conf);
	upstreams_remark_sources(dm->conf, daemon_remark, NULL);
	rc = log_start();
	if (rc < 0) {
		diag_set(d, -rc, NULL, 0, "cannot start the log: %s", strerror(-rc));
		return EXIT_FAILURE;
	}
	return EX_OK;
}

static int daemon_serve(struct daemon *dm)
{
	struct diag d;
	int code;

	timer_init(&dm->drain_timer);
	timer_init(&dm->control_timer);
	dm->started = conf_ref(dm->conf);
	code = daemon_start(dm, &d);
	if (code == EX_OK && daemon_run(dm, &d) < 0)
		code = EXIT_FAILURE;
	if (code != EX_OK)
		oneshot_fail(dm->program->conf, code, &d);
	daemon_free(dm);
	return code;
}

/* Started with a standard descriptor closed, the next file to be opened would become it, and get what is
 * meant for it. */
static void daemon_fill_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int daemon_main(const struct daemon_program *p, int argc, char **argv)
{
	struct daemon dm = {.program = p};
	struct diag d;
	int code;

	daemon_fill_standard_fds();
	if (options_parse(&dm.options, p->flags, argc, argv, &d) < 0) {
		fprintf(stderr, "%s: %s\n", p->conf->name, d.text);
		return EX_USAGE;
	}
	code = oneshot_run(p, &dm.options);
	if (code != ONESHOT_NONE)
		return code;
	code = options_load(&dm.options, p->conf, &dm.conf, &d);
	return code == EX_OK ? daemon_serve(&dm) : oneshot_fail(p->conf, code, &d);
}
