/* SPDX-License-Identifier: MIT */
#include "rulemgr/holder.h"

#include <dirent.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
static void process_name(const char *pid, char out[32])
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (f == NULL || fgets(out, 32, f) == NULL)
		snprintf(out, 32, "?");
	if (f != NULL)
		fclose(f);
	out[strcspn(out, "\n")] = '\0';
	for (char *at = out; *at != '\0'; at++) {
		if (*at < ' ' || *at > '~')
			*at = '?';
	}
}

bool holder_find(uint32_t port, char *out, size_t cap)
{
	unsigned long inode = find_inode(port);
	struct dirent *entry;
	char link[64], name[32];
	DIR *proc;

	if (inode == 0)
		return false;
	snprintf(out, cap, "an unknown process");
	snprintf(link, sizeof(link), "socket:[%lu]", inode);
	proc = opendir("/proc");
	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name) ||
		    !process_holds(entry->d_name, link))
			continue;
		process_name(entry->d_name, name);
		snprintf(out, cap, "%s (pid %.20s)", name, entry->d_name);
		break;
	}
	if (proc != NULL)
		closedir(proc);
	return true;
}
