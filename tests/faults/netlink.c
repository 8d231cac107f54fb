/* SPDX-License-Identifier: MIT */
/*
 * Makes the netlink messages of transocks-rules fail, or the program die between two of them: preloaded
 * (LD_PRELOAD). NETLINK_FAULT says what, in words with a blank between:
 *
 *	kill-before N, kill-after N	SIGKILL at the N-th send or receive on a netlink socket
 *	signal N NUMBER			that signal before it
 *	send N ERRNO, receive N ERRNO	that one fails
 *	refuse N [ERRNO]		the kernel refuses the N-th message of the batch, and, where ERRNO is
 *					given, with that error
 *	count				writes "sends receives messages" to the file NETLINK_COUNT at the end
 *
 * N counts from 0. A refused message is sent with a type that the kernel does not know, so it is the kernel that
 * throws the batch away. tests/e2e/test_rules_faults.py is the other side.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char verb[32];
static int number = -1, error, calls, sends, receives, messages;

__attribute__((constructor)) static void fault_read(void)
{
	const char *text = getenv("NETLINK_FAULT");

	if (text != NULL)
		sscanf(text, "%31s %d %d", verb, &number, &error);
}

__attribute__((destructor)) static void fault_count(void)
{
	const char *path = getenv("NETLINK_COUNT");
	FILE *f = path != NULL ? fopen(path, "w") : NULL;

	if (f == NULL)
		return;
	fprintf(f, "%d %d %d\n", sends, receives, messages);
	fclose(f);
}

static bool is(const char *word, int n)
{
	return strcmp(verb, word) == 0 && n == number;
}

static bool is_netlink(int fd)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_NETLINK;
}

static void die_if(const char *word, int n)
{
	if (is(word, n))
		kill(getpid(), SIGKILL);
	if (is("signal", n) && strcmp(word, "kill-before") == 0)
		kill(getpid(), error);
}

/* Counts the messages of a batch, and spoils the one that is to be refused. */
static void spoil(char *bytes, size_t n)
{
	struct nlmsghdr *h = (void *)bytes;
	size_t at = 0;

	if (n < sizeof(*h) || h->nlmsg_type != NFNL_MSG_BATCH_BEGIN)
		return;
	for (messages = -1; at + sizeof(*h) <= n; at += NLMSG_ALIGN(h->nlmsg_len)) {
		h = (void *)(bytes + at);
		if (h->nlmsg_type == NFNL_MSG_BATCH_BEGIN || h->nlmsg_type == NFNL_MSG_BATCH_END) {
			messages += h->nlmsg_type == NFNL_MSG_BATCH_BEGIN;
			continue;
		}
		if (is("refuse", messages++))
			h->nlmsg_type |= 0xff;
	}
}

/* Puts the wanted error in the place of the kernel's. */
static void answer(char *bytes, ssize_t n)
{
	struct nlmsghdr *h = (void *)bytes;

	if (strcmp(verb, "refuse") != 0 || error == 0)
		return;
	for (; n >= (ssize_t)sizeof(*h) && NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
		struct nlmsgerr *e = NLMSG_DATA(h);

		if (h->nlmsg_type == NLMSG_ERROR && e->error != 0 && messages > 0)
			e->error = -error;
	}
}

ssize_t sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *to,
	       socklen_t to_len)
{
	ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	ssize_t r;
	int call;

	*(void **)&next = dlsym(RTLD_NEXT, "sendto");
	if (!is_netlink(fd))
		return next(fd, data, n, flags, to, to_len);
	call = calls++;
	die_if("kill-before", call);
	if (is("send", sends++)) {
		errno = error;
		return -1;
	}
	spoil((char *)data, n);
	r = next(fd, data, n, flags, to, to_len);
	die_if("kill-after", call);
	return r;
}

ssize_t recv(int fd, void *data, size_t n, int flags)
{
	ssize_t (*next)(int, void *, size_t, int);
	ssize_t r;
	int call;

	*(void **)&next = dlsym(RTLD_NEXT, "recv");
	if (!is_netlink(fd))
		return next(fd, data, n, flags);
	call = calls++;
	die_if("kill-before", call);
	if (is("receive", receives++)) {
		errno = error;
		return -1;
	}
	r = next(fd, data, n, flags);
	answer(data, r);
	die_if("kill-after", call);
	return r;
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t (*next)(int, struct msghdr *, int);
	ssize_t r;
	int call;

	*(void **)&next = dlsym(RTLD_NEXT, "recvmsg");
	if (!is_netlink(fd))
		return next(fd, m, flags);
	call = calls++;
	die_if("kill-before", call);
	if (is("receive", receives++)) {
		errno = error;
		return -1;
	}
	r = next(fd, m, flags);
	if (m->msg_iovlen > 0)
		answer(m->msg_iov[0].iov_base, r);
	die_if("kill-after", call);
	return r;
}
