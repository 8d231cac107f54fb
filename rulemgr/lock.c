/* SPDX-License-Identifier: MIT */
#include "rulemgr/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "policy/strbuf.h"

#define LOCK_FILE     "/run/transocks-rules.lock"
#define LOCK_ATTEMPTS 200
#define LOCK_PAUSE_NS 50000000

/* Network namespaces that it is known of; the one that was changed last stands first. */
#define NOTES_MAX 64

int lock_try(void)
{
	int fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return fd;
	close(fd);
	return -EBUSY;
}

int lock_take(struct diag *d)
{
	struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	int fd;

	for (int i = 0; (fd = lock_try()) == -EBUSY && i < LOCK_ATTEMPTS; i++)
		nanosleep(&pause, NULL);
	return fd != -EBUSY ? fd
			    : diag_set(d, EBUSY, NULL, 0,
				       "another transocks-rules is at work (lock %s)", LOCK_FILE);
}

void lock_drop(int fd)
{
	if (fd >= 0)
		close(fd);
}

struct note {
	uint64_t netns, n;
};

static uint64_t own_netns(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* The file has one line for each. Returns how many there are. */
static size_t read_notes(int fd, struct note *notes)
{
	char text[NOTES_MAX * 48], *at = text;
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
	size_t n = 0;
	int used;

	text[len > 0 ? len : 0] = '\0';
	while (n < NOTES_MAX && sscanf(at, "%" SCNu64 " %" SCNu64 "\n%n", &notes[n].netns,
				       &notes[n].n, &used) == 2) {
		at += used;
		n++;
	}
	return n;
}

uint64_t lock_noted(int fd)
{
	struct note notes[NOTES_MAX];
	size_t n = fd >= 0 ? read_notes(fd, notes) : 0;
	uint64_t own = own_netns();

	for (size_t i = 0; i < n; i++) {
		if (notes[i].netns == own)
			return notes[i].n;
	}
	return 0;
}

void lock_note(int fd)
{
	struct note notes[NOTES_MAX];
	char text[NOTES_MAX * 48];
	uint64_t own = own_netns();
	struct strbuf sb;
	size_t n;

	if (fd < 0)
		return;
	n = read_notes(fd, notes);
	strbuf_init(&sb, text, sizeof(text));
	strbuf_printf(&sb, "%" PRIu64 " %" PRIu64 "\n", own, lock_noted(fd) + 1);
	for (size_t i = 0; i < n && i < NOTES_MAX - 1; i++) {
		if (notes[i].netns != own)
			strbuf_printf(&sb, "%" PRIu64 " %" PRIu64 "\n", notes[i].netns, notes[i].n);
	}
	if (pwrite(fd, text, sb.len, 0) != (ssize_t)sb.len || ftruncate(fd, (off_t)sb.len) < 0)
		return; /* a full /run: then a watcher takes us for somebody else */
}
