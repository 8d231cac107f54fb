/* SPDX-License-Identifier: MIT */
#include "rulemgr/watcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "rulemgr/iptables_trial_sync.h"
#include "rulemgr/trial_sync.h"

#define WATCHER_PAUSE_MS 500
/* How long flows are waited for where there is no table to go back to. */
#define WATCHER_DRAIN_MS 60000

static void watcher_sleep(int64_t ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
		;
}

int watcher_end_table(const char *control, bool cut, size_t *flows, struct diag *d)
{
	struct kernel k;
	int r = kernel_open(&k, d);

	if (r < 0)
		return r;
	k.control = control;
	r = trial_end(&k, cut, flows, d);
	kernel_close(&k);
	return r;
}

int watcher_end_iptables(const char *control, bool cut, size_t *flows, struct diag *d)
{
	(void)control;
	return iptables_trial_end(cut, flows, d);
}

/* Until the trial has ended one way or another. Another trial may have begun meanwhile: it has a watcher too, but
 * that one may have been killed. */
static int watcher_wait(watcher_end_fn *end, const char *control, struct diag *d)
{
	int64_t waited_ms = 0;

	for (;;) {
		size_t flows = 0;
		int r = end(control, waited_ms >= WATCHER_DRAIN_MS, &flows, d);

		if (r != -EAGAIN && r != -EBUSY)
			return r;
		watcher_sleep(WATCHER_PAUSE_MS);
		waited_ms = flows > 0 ? waited_ms + WATCHER_PAUSE_MS : 0;
	}
}

static void watcher_run(int64_t ms, watcher_end_fn *end, const char *control)
{
	struct diag d = {.text = ""};
	int r;

	openlog("transocks-rules", LOG_PID, LOG_DAEMON);
	watcher_sleep(ms);
	r = watcher_wait(end, control, &d);
	if (r < 0)
		syslog(LOG_WARNING,
		       "after a trial: %s; the rules before it decide, but run install or flush to "
		       "tidy up",
		       d.text);
}

/* Nothing of the caller may be held: a shell, or ssh, waits until its pipe is closed. */
static void watcher_detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigset_t none;

	setsid();
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none); /* the installation has held some back */
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	close_range(3, ~0U, 0);
	if (chdir("/") < 0)
		return; /* then a file system cannot be unmounted for a minute */
}

int watcher_start(int64_t ms, watcher_end_fn *end, const char *control, struct diag *d)
{
	pid_t pid = fork();

	if (pid < 0)
		return diag_set(d, errno, NULL, 0, "cannot start the watcher: %s", strerror(errno));
	if (pid > 0)
		return 0;
	watcher_detach();
	watcher_run(ms, end, control);
	_exit(0);
}
