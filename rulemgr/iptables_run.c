/* SPDX-License-Identifier: MIT */
#include "rulemgr/iptables_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rulemgr/listeners.h"

#define PROGRAM_MAX  32
#define DEFAULT_PATH "/usr/sbin:/usr/bin:/sbin:/bin"

/* "iptables-legacy-save" */
static const char *name_program(int family, const char *by, const char *what, char *out, size_t cap)
{
	snprintf(out, cap, "%s-%s%s", family == LISTENERS_IPV4 ? "iptables" : "ip6tables", by,
		 what);
	return out;
}

const char *iptables_find(const char *program, char *out, size_t cap)
{
	const char *path = secure_getenv("PATH");

	if (path == NULL || path[0] == '\0')
		path = DEFAULT_PATH;
	while (*path != '\0') {
		size_t n = strcspn(path, ":");

		if (path[0] == '/') {
			snprintf(out, cap, "%.*s/%s", (int)n, path, program);
			if (access(out, X_OK) == 0)
				return out;
		}
		path += n + (path[n] == ':');
	}
	return NULL;
}

/* Standard input and output are files in memory, so that neither side waits for the other; standard error is
 * a pipe, whose end is the end of the program as well. */
struct run {
	const char *program;
	int in, out, errors, errors_write;
	struct strbuf said; /* on standard error */
	char said_text[1024];
	int status; /* of waitpid() */
};

static int run_open(struct run *r, const struct strbuf *input)
{
	int pipes[2];

	r->in = memfd_create("input", MFD_CLOEXEC);
	r->out = memfd_create("output", MFD_CLOEXEC);
	if (r->in < 0 || r->out < 0 || pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	r->errors = pipes[0];
	r->errors_write = pipes[1];
	for (size_t done = 0; input != NULL && done < input->len;) {
		ssize_t n = write(r->in, input->data + done, input->len - done);

		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return lseek(r->in, 0, SEEK_SET) < 0 ? -errno : 0;
}

static void run_close(struct run *r)
{
	int *const fds[] = {&r->in, &r->out, &r->errors, &r->errors_write};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

/* Signals as in a fresh process, and of the environment only what iptables itself looks at. */
static int run_spawn(struct run *r, const char *const *argv, const char *file, pid_t *pid)
{
	static char path[] = "PATH=" DEFAULT_PATH, locale[] = "LC_ALL=C";
	char lock[PATH_MAX + 32], *env[] = {path, locale, NULL, NULL};
	const char *lock_file = secure_getenv("XTABLES_LOCKFILE");
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, pipe_only;
	int err;

	if (lock_file != NULL) {
		snprintf(lock, sizeof(lock), "XTABLES_LOCKFILE=%s", lock_file);
		env[2] = lock;
	}
	sigemptyset(&none);
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_adddup2(&files, r->in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, r->out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, r->errors_write, STDERR_FILENO);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &pipe_only);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn(pid, file, &files, &attr, (char *const *)argv, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	close(r->errors_write);
	r->errors_write = -1;
	return -err;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Reads standard error to its end. 0, or -ETIMEDOUT. */
static int run_read_errors(struct run *r)
{
	int64_t end = now_ms() + IPTABLES_RUN_SECONDS * 1000;
	struct pollfd p = {.fd = r->errors, .events = POLLIN};
	char bytes[512];

	for (;;) {
		int64_t left = end - now_ms();
		ssize_t n;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = read(r->errors, bytes, sizeof(bytes));
		if (n <= 0)
			return 0;
		strbuf_put(&r->said, bytes, (size_t)n);
	}
}

static int run_wait(struct run *r, pid_t pid)
{
	int err = run_read_errors(r);

	if (err < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &r->status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return err;
}

/* Appends all that it wrote to standard output. */
static int run_read_output(const struct run *r, struct strbuf *out)
{
	char bytes[4096];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(r->out, bytes, sizeof(bytes), at)) > 0) {
		strbuf_put(out, bytes, (size_t)n);
		at += n;
	}
	if (n < 0)
		return -errno;
	return out->truncated ? -ENOMEM : 0;
}

/* argv[0] is the name alone: iptables is one program that looks at it. Returns the exit code with the
 * output in `out` (may be NULL), or a negative errno with `d` filled. */
static int run(struct run *r, const char *const *argv, const struct strbuf *input,
	       struct strbuf *out, struct diag *d)
{
	char file[PATH_MAX];
	pid_t pid;
	int err;

	*r = (struct run){
		.program = argv[0], .in = -1, .out = -1, .errors = -1, .errors_write = -1};
	strbuf_init(&r->said, r->said_text, sizeof(r->said_text));
	if (iptables_find(argv[0], file, sizeof(file)) == NULL)
		return diag_set(d, EOPNOTSUPP, NULL, 0,
				"%s is not installed, or not in a directory of PATH", argv[0]);
	err = run_open(r, input);
	if (err == 0)
		err = run_spawn(r, argv, file, &pid);
	if (err == 0)
		err = run_wait(r, pid);
	if (err == 0 && out != NULL)
		err = run_read_output(r, out);
	run_close(r);
	if (err == -ETIMEDOUT)
		return diag_set(d, ETIMEDOUT, NULL, 0, "%s did not end within %d s", file,
				IPTABLES_RUN_SECONDS);
	if (err < 0)
		return diag_set(d, -err, NULL, 0, "cannot run %s: %s", file, strerror(-err));
	return WIFEXITED(r->status) ? WEXITSTATUS(r->status) : 128 + WTERMSIG(r->status);
}

const char *iptables_variant(const char *program, char *out, size_t cap)
{
	const char *const argv[] = {program, "--version", NULL};
	char text[256], *open;
	struct strbuf said;
	struct run r;

	strbuf_init(&said, text, sizeof(text));
	out[0] = '\0';
	if (run(&r, argv, NULL, &said, NULL) != 0)
		return out;
	open = strchr(text, '(');
	if (open != NULL)
		snprintf(out, cap, "%.*s", (int)strcspn(open + 1, ")\n"), open + 1);
	return out;
}

/* ------------------------------------------------------------------------------------------------ */

static bool says(const struct run *r, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (strcasestr(r->said.data, *words) != NULL)
			return true;
	}
	return false;
}

static int error_of(const struct run *r)
{
	static const char *const busy[] = {"xtables lock", NULL};
	static const char *const privilege[] = {"permission denied", "must be root",
						"operation not permitted", NULL};
	static const char *const lacking[] = {
		"no such file",  "couldn't load",  "does not exist",         "by that name",
		"not supported", "unknown option", "protocol not available", NULL};

	if (says(r, busy))
		return -EBUSY;
	if (says(r, privilege))
		return -EPERM;
	return says(r, lacking) ? -EOPNOTSUPP : -EIO;
}

/* The line of the input that it complains about, from 1; 0: none. */
static unsigned complained_line(const struct run *r)
{
	static const char *const before[] = {"at line: ", "line "};
	unsigned line = 0;

	for (size_t i = 0; line == 0 && i < ARRAY_LEN(before); i++) {
		const char *at = strstr(r->said.data, before[i]);

		if (at != NULL)
			line = (unsigned)strtoul(at + strlen(before[i]), NULL, 10);
	}
	return line;
}

static void put_line(struct strbuf *sb, const char *text, unsigned line)
{
	for (; line > 1 && text != NULL; line--) {
		text = strchr(text, '\n');
		text = text != NULL ? text + 1 : NULL;
	}
	if (text != NULL)
		strbuf_put(sb, text, strcspn(text, "\n"));
}

/* Appends the name of the table that line `line` is part of. */
static void put_table(struct strbuf *sb, const char *text, unsigned line)
{
	const char *table = text;

	for (; line > 1 && text != NULL; line--) {
		if (text[0] == '*')
			table = text + 1;
		text = strchr(text, '\n');
		text = text != NULL ? text + 1 : NULL;
	}
	strbuf_put(sb, table, strcspn(table, "\n"));
}

/* What it said, in one line and without the hints to its own help. */
static void put_said(struct strbuf *sb, const struct run *r)
{
	const char *at = r->said.data;
	size_t n, len = sb->len;

	for (; *at != '\0'; at += n + (at[n] == '\n')) {
		n = strcspn(at, "\n");
		if (n == 0 || strncmp(at, "Try `", 5) == 0 ||
		    strncmp(at, "Error occurred at line", 22) == 0)
			continue;
		if (sb->len > len)
			strbuf_puts(sb, "; ");
		strbuf_put(sb, at, n);
	}
	if (sb->len == len)
		strbuf_printf(sb, "it ended with %s %d",
			      WIFEXITED(r->status) ? "exit code" : "signal",
			      WIFEXITED(r->status) ? WEXITSTATUS(r->status) : WTERMSIG(r->status));
}

static int tell(const struct run *r, const struct strbuf *body, struct diag *d)
{
	unsigned line = complained_line(r);
	struct strbuf sb, at, table;
	char text[400], rule[200], name[32];
	int err = error_of(r);

	strbuf_init(&sb, text, sizeof(text));
	strbuf_init(&at, rule, sizeof(rule));
	strbuf_init(&table, name, sizeof(name));
	put_said(&sb, r);
	if (line > 0 && body != NULL)
		put_line(&at, body->data, line);
	if (err == -EBUSY)
		return diag_set(d, EBUSY, NULL, 0,
				"somebody else has held the lock of iptables for %d s: %s",
				IPTABLES_LOCK_SECONDS, text);
	if (at.len == 0)
		return diag_set(d, -err, NULL, 0, "%s failed: %s", r->program, text);
	put_table(&table, body->data, line);
	if (strcmp(rule, "COMMIT") == 0) /* legacy: the kernel takes or refuses all of a table */
		return diag_set(d, -err, NULL, 0,
				"%s: the kernel refuses the rules of table %s (see its log): %s",
				r->program, table.data, text);
	return diag_set(d, -err, NULL, 0, "%s refused \"%s\": %s", r->program, rule, text);
}

bool iptables_has_programs(int family, const char *by)
{
	char name[PROGRAM_MAX], path[PATH_MAX];

	return iptables_find(name_program(family, by, "save", name, sizeof(name)), path,
			     sizeof(path)) != NULL &&
	       iptables_find(name_program(family, by, "restore", name, sizeof(name)), path,
			     sizeof(path)) != NULL;
}

int iptables_save(int family, const char *by, struct strbuf *out, struct diag *d)
{
	char name[PROGRAM_MAX];
	const char *const argv[] = {name_program(family, by, "save", name, sizeof(name)), "-c",
				    NULL};
	struct run r;
	int code;

	code = run(&r, argv, NULL, out, d);
	return code > 0 ? tell(&r, NULL, d) : code;
}

int iptables_restore(int family, const char *by, const struct strbuf *body, bool test,
		     struct diag *d)
{
	char wait[16], name[PROGRAM_MAX];
	const char *const argv[] = {name_program(family, by, "restore", name, sizeof(name)),
				    "--noflush",
				    "-w",
				    wait,
				    test ? "--test" : NULL,
				    NULL};
	struct run r;
	int code;

	snprintf(wait, sizeof(wait), "%d", IPTABLES_LOCK_SECONDS);
	code = run(&r, argv, body, NULL, d);
	return code > 0 ? tell(&r, body, d) : code;
}
