/* SPDX-License-Identifier: MIT */
#include "rulemgr/holder.h"

#include <dirent.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "policy/strbuf.h"

/* A daemon that drains, its successor, and one transocks-rules that borrows. */
#define HOLDERS_TOLD_MAX 3

/* The socket's inode; 0: there is none. The file has: sk, protocol, port, groups, five numbers, inode. */
static unsigned long find_inode(uint32_t port)
{
	FILE *f = fopen("/proc/thread-self/net/netlink", "re");
	unsigned long inode, found = 0;
	unsigned protocol, their_port;
	char line[256];

	while (f != NULL && found == 0 && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%*s %u %u %*s %*s %*s %*s %*s %*s %lu", &protocol, &their_port,
			   &inode) == 3 &&
		    protocol == NETLINK_NETFILTER && their_port == port)
			found = inode;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

static bool process_holds(const char *pid, const char *link)
{
	char path[300], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		found = strcmp(target, link) == 0;
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

/* As the kernel keeps it, cut at 15 bytes; "?" if the process has gone. */
static void process_name(const char *pid, char out[HOLDER_NAME_MAX])
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (f == NULL || fgets(out, HOLDER_NAME_MAX, f) == NULL)
		snprintf(out, HOLDER_NAME_MAX, "?");
	if (f != NULL)
		fclose(f);
	out[strcspn(out, "\n")] = '\0';
	for (char *at = out; *at != '\0'; at++) {
		if (*at < ' ' || *at > '~')
			*at = '?';
	}
}

/* The user that its sockets are of; (uid_t)-1 if the process has gone. */
static uid_t process_user(const char *pid)
{
	char path[300], line[256];
	unsigned uid = UINT32_MAX;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	f = fopen(path, "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "Uid: %*u %*u %*u %u", &uid) == 1)
			break;
	}
	if (f != NULL)
		fclose(f);
	return uid;
}

size_t holders_of_socket(unsigned long inode, struct holder *out, size_t max)
{
	DIR *proc = inode != 0 ? opendir("/proc") : NULL;
	struct dirent *entry;
	char link[64];
	size_t n = 0;

	snprintf(link, sizeof(link), "socket:[%lu]", inode);
	while (proc != NULL && n < max && (entry = readdir(proc)) != NULL) {
		const char *pid = entry->d_name;

		if (strspn(pid, "0123456789") != strlen(pid) || !process_holds(pid, link))
			continue;
		out[n].pid = (pid_t)strtol(pid, NULL, 10);
		out[n].uid = process_user(pid);
		process_name(pid, out[n].name);
		n++;
	}
	if (proc != NULL)
		closedir(proc);
	return n;
}

bool holder_find(uint32_t port, char *out, size_t cap)
{
	unsigned long inode = find_inode(port);
	struct holder holders[HOLDERS_TOLD_MAX];
	struct strbuf sb;
	size_t n;

	if (inode == 0)
		return false;
	n = holders_of_socket(inode, holders, ARRAY_LEN(holders));
	strbuf_init(&sb, out, cap);
	for (size_t i = 0; i < n; i++)
		strbuf_printf(&sb, "%s%s (pid %d)", i > 0 ? " and " : "", holders[i].name,
			      (int)holders[i].pid);
	if (n == 0)
		strbuf_puts(&sb, "an unknown process");
	return true;
}
