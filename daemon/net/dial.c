/* SPDX-License-Identifier: MIT */
#include "daemon/net/dial.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { QUERY_AAAA, QUERY_A };

static int connect_rank(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ECONNREFUSED:
		return 5;
	case -ETIMEDOUT:
		return 4;
	case -EHOSTUNREACH:
	case -ENETUNREACH:
		return 3;
	default:
		return 2;
	case -EAFNOSUPPORT:
		return 1;
	}
}

static int query_rank(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
		return 1;
	case -ETIMEDOUT:
		return 3;
	default:
		return 2;
	}
}

/* --- the end --- */

static void attempt_close(struct dial *d, struct dial_attempt *at)
{
	int fd = at->source->fd;

	loop_unwatch(d->loop, at->source);
	at->source = NULL;
	close(fd);
	d->n_open--;
}

static bool is_asking(const struct dial *d, int which)
{
	return d->queries[which].entry != NULL;
}

static void dial_stop(struct dial *d)
{
	if (d->answered != NULL && (is_asking(d, QUERY_AAAA) || is_asking(d, QUERY_A)))
		d->answered(d);
	query_cancel(&d->queries[QUERY_AAAA]);
	query_cancel(&d->queries[QUERY_A]);
	timer_cancel(&d->timer);
	loop_unqueue(&d->task);
	for (size_t i = 0; i < DIAL_OPEN_MAX; i++)
		if (d->attempts[i].source != NULL)
			attempt_close(d, &d->attempts[i]);
}

/* The callee may free `d` or dial again with it. */
static void dial_finish(struct dial *d, int status)
{
	dial_fn *done = d->done;

	dial_stop(d);
	d->done = NULL;
	done(d, status);
}

static void on_report(struct task *t)
{
	struct dial *d = container_of(t, struct dial, task);

	if (d->refused != 0 && d->n_tried == 0) {
		d->phase = DIAL_REFUSED;
		return dial_finish(d, -EACCES);
	}
	dial_finish(d, d->phase == DIAL_RESOLVE ? d->query_error : d->connect_error);
}

/* Failures go through a task: some are known before dial_addr() has returned. */
static void dial_fail(struct dial *d)
{
	dial_stop(d);
	loop_queue(d->loop, &d->task, on_report);
}

/* --- attempts --- */

static void dial_next(struct dial *d);

static void dial_note_error(struct dial *d, int err, int from)
{
	if (connect_rank(err) <= connect_rank(d->connect_error))
		return;
	d->connect_error = err;
	d->source = from;
}

static void on_attempt(struct source *src, uint32_t events)
{
	struct dial_attempt *at = src->owner;
	struct dial *d = at->dial;
	int err = 0;

	/* Writable without an error is connected: SO_ERROR need not be asked. */
	if (events & (EPOLLERR | EPOLLHUP)) {
		err = sock_error(src->fd);
		if (err == 0 && (events & EPOLLHUP))
			err = -ECONNRESET;
	} else if (!(events & EPOLLOUT)) {
		return;
	}
	if (err < 0) {
		attempt_close(d, at);
		dial_note_error(d, err, at->from);
		dial_next(d);
		return;
	}
	at->source = NULL;
	d->n_open--;
	src->on_event = NULL;
	d->won = src;
	d->events = events;
	d->peer = d->addrs[at->place];
	d->source = at->from;
	dial_finish(d, 0);
}

static int attempt_bind(struct dial *d, int fd, size_t place)
{
	return d->bind != NULL ? d->bind(d, fd, place)
			       : sock_bind_source(fd, &d->options.source->addrs[place]);
}

/* The descriptor of a socket on its way to `to`, or -errno; -EADDRNOTAVAIL where another source may do. `place` -1:
 * the kernel chooses. */
static int attempt_connect(struct dial *d, const struct addr *to, int place)
{
	int fd = sock_stream(to->family, &d->options), err;

	if (fd < 0)
		return fd;
	err = sock_take_iface(fd, &d->options, to);
	if (err == 0 && place >= 0) {
		err = attempt_bind(d, fd, (size_t)place);
		if (err < 0 && !sock_is_shortage(-err))
			err = -EADDRNOTAVAIL;
	}
	if (err == 0) {
		err = sock_connect(fd, to);
		/* The port is chosen here. */
		d->no_port = d->no_port || err == -EADDRNOTAVAIL;
	}
	if (err == 0 || err == -EINPROGRESS)
		return fd;
	close(fd);
	return err;
}

/* The same from one of our source addresses, which is noted in *from. */
static int attempt_from(struct dial *d, const struct addr *to, int *from)
{
	const struct sock_options *o = &d->options;
	size_t n = sock_sources(o, to->family);
	int fd = n > 0 ? -EADDRNOTAVAIL : -EAFNOSUPPORT;

	for (size_t i = 0; i < n && fd == -EADDRNOTAVAIL; i++) {
		*from = (int)sock_source(o, to->family, i);
		fd = attempt_connect(d, to, *from);
	}
	return fd;
}

/* One that is free, or becomes it. */
static struct dial_attempt *attempt_slot(struct dial *d)
{
	struct dial_attempt *oldest = &d->attempts[0];

	for (size_t i = 0; i < DIAL_OPEN_MAX; i++) {
		struct dial_attempt *at = &d->attempts[i];

		if (at->source == NULL)
			return at;
		if (at->place < oldest->place)
			oldest = at;
	}
	dial_note_error(d, -ETIMEDOUT, oldest->from);
	attempt_close(d, oldest);
	return oldest;
}

/* `from` says which source address an error is about, too. */
static int attempt_start(struct dial *d, size_t i, int *from)
{
	bool any = d->options.source == NULL || d->options.source->n == 0;
	const struct addr *to = &d->addrs[i];
	struct dial_attempt *at;
	int fd;

	*from = -1;
	fd = any ? attempt_connect(d, to, -1) : attempt_from(d, to, from);
	if (fd < 0)
		return fd;
	/* Watched after connect(2): before it the kernel would report a hang-up. */
	at = attempt_slot(d);
	at->source = loop_watch(d->loop, fd, LOOP_STREAM, on_attempt, at);
	if (at->source == NULL) {
		int err = -errno;

		close(fd);
		return err;
	}
	at->dial = d;
	at->from = (int16_t)*from;
	at->place = (uint8_t)i;
	d->n_open++;
	return 0;
}

static void on_timer(struct timer *t)
{
	dial_next(container_of(t, struct dial, timer));
}

/* Begins one more attempt if there is an address for it; ends the dial if there is no hope left. */
static void dial_next(struct dial *d)
{
	timer_cancel(&d->timer);
	while (d->n_tried < d->n_addrs) {
		int err, from;

		d->phase = DIAL_CONNECT;
		if (d->n_tried == 0)
			d->connect_ms = d->loop->now_ms;
		err = attempt_start(d, d->n_tried++, &from);
		if (err == 0) {
			if (d->n_tried < d->n_addrs || is_asking(d, QUERY_AAAA) ||
			    is_asking(d, QUERY_A))
				loop_timer(d->loop, &d->timer, DIAL_ATTEMPT_DELAY_MS, on_timer);
			return;
		}
		/* No more of them, then; those on their way may still arrive. */
		if (sock_is_shortage(-err))
			d->n_addrs = d->n_tried;
		dial_note_error(d, err, from);
	}
	if (d->n_open == 0 && !is_asking(d, QUERY_AAAA) && !is_asking(d, QUERY_A))
		dial_fail(d);
}

/* --- addresses --- */

static bool addr_is_refused(struct dial *d, const struct addr *to)
{
	int why = d->filter != NULL ? d->filter->refuses(d->filter, to) : 0;

	if (why != 0 && d->refused == 0) {
		d->refused = why;
		d->peer = *to;
		d->peer.port = d->port;
	}
	return why != 0;
}

/* Adds to what is not tried yet and puts that in order: the families in turn (RFC 8305 section 4),
 * IPv6 first, or whichever the last attempt was not. */
static void addrs_merge(struct dial *d, const struct addr *addrs, size_t n)
{
	struct addr families[2][DIAL_ADDRS_MAX + RESOLVE_ADDRS_MAX]; /* IPv6, IPv4 */
	size_t count[2] = {0, 0}, used[2] = {0, 0};
	unsigned turn = d->n_tried > 0 && d->addrs[d->n_tried - 1].family == AF_INET6;

	for (size_t i = d->n_tried; i < d->n_addrs; i++) {
		unsigned f = d->addrs[i].family == AF_INET;

		families[f][count[f]++] = d->addrs[i];
	}
	for (size_t i = 0; i < n; i++) {
		unsigned f = addrs[i].family == AF_INET;

		if (addr_is_refused(d, &addrs[i]))
			continue;
		families[f][count[f]] = addrs[i];
		families[f][count[f]++].port = d->port;
	}
	d->n_addrs = d->n_tried;
	while (d->n_addrs < DIAL_ADDRS_MAX && (used[0] < count[0] || used[1] < count[1])) {
		if (used[turn] < count[turn])
			d->addrs[d->n_addrs++] = families[turn][used[turn]++];
		turn = !turn;
	}
}

static void on_answer(struct query *q, int status, const struct addr *addrs, size_t n)
{
	struct dial *d = q->owner;

	if (status == 0)
		addrs_merge(d, addrs, n);
	else if (query_rank(status) > query_rank(d->query_error))
		d->query_error = status;
	if (d->answered != NULL && !is_asking(d, QUERY_AAAA) && !is_asking(d, QUERY_A))
		d->answered(d);

	if (d->n_tried > 0) {
		/* On the way already. What came in is tried when the timer says so. */
		if (!timer_is_set(&d->timer))
			dial_next(d);
	} else if (!is_asking(d, QUERY_AAAA)) {
		dial_next(d);
	} else if (d->n_addrs > 0) {
		loop_timer(d->loop, &d->timer, DIAL_RESOLUTION_DELAY_MS, on_timer);
	}
}

/* --- from outside --- */

static void dial_begin(struct dial *d, struct loop *loop, const struct sock_options *o,
		       dial_fn *done, void *owner)
{
	BUG_ON(d->done != NULL);
	d->won = NULL;
	d->peer = (struct addr){.family = AF_UNSPEC};
	d->source = -1;
	d->refused = 0;
	d->no_port = false;
	d->owner = owner;
	d->done = done;
	d->loop = loop;
	d->options = *o;
	d->query_error = d->connect_error = 0;
	timer_init(&d->timer);
	loop_task_init(&d->task);
	d->n_addrs = d->n_tried = d->n_open = 0;
	for (size_t i = 0; i < DIAL_OPEN_MAX; i++)
		d->attempts[i].source = NULL;
}

void dial_addr(struct dial *d, struct loop *loop, const struct sock_options *o,
	       const struct addr *to, dial_fn *done, void *owner)
{
	dial_begin(d, loop, o, done, owner);
	d->phase = DIAL_CONNECT;
	d->port = to->port;
	d->addrs[0] = *to;
	d->n_addrs = addr_is_refused(d, to) ? 0 : 1;
	dial_next(d);
}

int dial_name(struct dial *d, struct loop *loop, struct resolver *r, const struct sock_options *o,
	      const char *name, uint16_t port, dial_fn *done, void *owner)
{
	int rc;

	dial_begin(d, loop, o, done, owner);
	d->phase = DIAL_RESOLVE;
	d->port = port;
	rc = query_start(r, &d->queries[QUERY_AAAA], name, AF_INET6, on_answer, d);
	if (rc == 0)
		rc = query_start(r, &d->queries[QUERY_A], name, AF_INET, on_answer, d);
	if (rc < 0)
		dial_cancel(d);
	return rc;
}

void dial_cancel(struct dial *d)
{
	if (d->done == NULL)
		return;
	dial_stop(d);
	d->done = NULL;
}
