/* SPDX-License-Identifier: MIT */
/*
 * Makes system calls and allocations of a daemon fail on demand: preloaded (LD_PRELOAD), switched while the
 * daemon runs. FAULTS names a file that the test has mapped as well; in it are rows of struct fault, all
 * numbers in the order of bytes of this machine. tests/e2e/test_faults.py is the other side.
 *
 * A row is active while its `error` is not 0: then each `every`-th of these calls fails with it.
 *
 * Built without sanitizers, also for a daemon that has them. AddressSanitizer must be preloaded before this, and
 * calls us where it calls the next definition; the allocations are then its own.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROWS 8

struct fault {
	char call[24]; /* as the wrappers below name it */
	uint32_t error;
	uint32_t every;
	uint32_t calls; /* while active */
	uint32_t hits;  /* how many of them failed */
};

static struct fault *faults;

__attribute__((constructor)) static void faults_open(void)
{
	const char *path = getenv("FAULTS");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return;
	p = mmap(NULL, ROWS * sizeof(struct fault), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		faults = p;
}

/* True, with errno: this call is to fail. */
static bool fails(const char *call)
{
	for (struct fault *f = faults; f != NULL && f < faults + ROWS; f++) {
		uint32_t error = __atomic_load_n(&f->error, __ATOMIC_ACQUIRE);

		if (error == 0 || strncmp(f->call, call, sizeof(f->call)) != 0)
			continue;
		if (__atomic_add_fetch(&f->calls, 1, __ATOMIC_RELAXED) % f->every != 0)
			continue;
		__atomic_add_fetch(&f->hits, 1, __ATOMIC_RELAXED);
		errno = (int)error;
		return true;
	}
	return false;
}

/* The next definition of `name`. While it is looked up for an allocation, that cannot itself allocate. */
static void *next(void **known, const char *name)
{
	static __thread bool looking;

	if (*known == NULL && !looking) {
		looking = true;
		*known = dlsym(RTLD_NEXT, name);
		looking = false;
	}
	return *known;
}

/* `known` caches the function; the union spares a cast that C does not define. */
#define NEXT(ret, name, ...)                     \
	static union {                           \
		void *p;                         \
		ret (*fn)(__VA_ARGS__);          \
	} name##_next;                           \
	if (next(&name##_next.p, #name) == NULL) \
		abort();

int socket(int family, int type, int protocol)
{
	NEXT(int, socket, int, int, int)
	return fails(family == AF_NETLINK ? "socket.NETLINK" : "socket")
		       ? -1
		       : socket_next.fn(family, type, protocol);
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	NEXT(int, accept4, int, struct sockaddr *, socklen_t *, int)
	return fails("accept4") ? -1 : accept4_next.fn(fd, addr, len, flags);
}

int listen(int fd, int backlog)
{
	NEXT(int, listen, int, int)
	return fails("listen") ? -1 : listen_next.fn(fd, backlog);
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	NEXT(int, bind, int, const struct sockaddr *, socklen_t)
	return fails("bind") ? -1 : bind_next.fn(fd, addr, len);
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	NEXT(int, connect, int, const struct sockaddr *, socklen_t)
	return fails("connect") ? -1 : connect_next.fn(fd, addr, len);
}

int shutdown(int fd, int how)
{
	NEXT(int, shutdown, int, int)
	return fails("shutdown") ? -1 : shutdown_next.fn(fd, how);
}

int getifaddrs(struct ifaddrs **list)
{
	NEXT(int, getifaddrs, struct ifaddrs **)
	return fails("getifaddrs") ? -1 : getifaddrs_next.fn(list);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	NEXT(int, getsockopt, int, int, int, void *, socklen_t *)
	return fails("getsockopt") ? -1 : getsockopt_next.fn(fd, level, name, value, len);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	bool linger = level == SOL_SOCKET && name == SO_LINGER;

	NEXT(int, setsockopt, int, int, int, const void *, socklen_t)
	return fails(linger ? "setsockopt.LINGER" : "setsockopt")
		       ? -1
		       : setsockopt_next.fn(fd, level, name, value, len);
}

int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	NEXT(int, getsockname, int, struct sockaddr *, socklen_t *)
	return fails("getsockname") ? -1 : getsockname_next.fn(fd, addr, len);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	NEXT(int, epoll_ctl, int, int, int, struct epoll_event *)
	return fails(op == EPOLL_CTL_ADD ? "epoll_ctl.ADD" : "epoll_ctl.MOD")
		       ? -1
		       : epoll_ctl_next.fn(epfd, op, fd, event);
}

ssize_t recv(int fd, void *data, size_t n, int flags)
{
	NEXT(ssize_t, recv, int, void *, size_t, int)
	return fails("recv") ? -1 : recv_next.fn(fd, data, n, flags);
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
	NEXT(ssize_t, send, int, const void *, size_t, int)
	return fails("send") ? -1 : send_next.fn(fd, data, n, flags);
}

ssize_t recvfrom(int fd, void *restrict data, size_t n, int flags, struct sockaddr *restrict addr,
		 socklen_t *restrict len)
{
	NEXT(ssize_t, recvfrom, int, void *, size_t, int, struct sockaddr *, socklen_t *)
	return fails("recvfrom") ? -1 : recvfrom_next.fn(fd, data, n, flags, addr, len);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	NEXT(ssize_t, sendmsg, int, const struct msghdr *, int)
	return fails("sendmsg") ? -1 : sendmsg_next.fn(fd, m, flags);
}

/* Of the log alone: what wakes a loop cannot fail. */
ssize_t write(int fd, const void *data, size_t n)
{
	NEXT(ssize_t, write, int, const void *, size_t)
	return fd == STDERR_FILENO && fails("write") ? -1 : write_next.fn(fd, data, n);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	NEXT(int, ioctl, int, unsigned long, ...)
	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fails("ioctl") ? -1 : ioctl_next.fn(fd, request, arg);
}

int pipe2(int fds[2], int flags)
{
	NEXT(int, pipe2, int[2], int)
	return fails("pipe2") ? -1 : pipe2_next.fn(fds, flags);
}

int fcntl(int fd, int command, ...)
{
	va_list ap;
	void *arg;

	NEXT(int, fcntl, int, int, ...)
	va_start(ap, command);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (command == F_SETPIPE_SZ && fails("fcntl.F_SETPIPE_SZ"))
		return -1;
	if (command == F_GETPIPE_SZ && fails("fcntl.F_GETPIPE_SZ"))
		return -1;
	return fcntl_next.fn(fd, command, arg);
}

ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned int flags)
{
	/* A daemon fills pipes and empties them; only a pipe has a capacity. */
	bool fills = fcntl(in, F_GETPIPE_SZ) < 0;

	NEXT(ssize_t, splice, int, off64_t *, int, off64_t *, size_t, unsigned int)
	return fails(fills ? "splice.IN" : "splice.OUT")
		       ? -1
		       : splice_next.fn(in, in_at, out, out_at, n, flags);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	NEXT(void *, mmap, void *, size_t, int, int, int, off_t)
	return fails("mmap") ? MAP_FAILED : mmap_next.fn(at, n, protection, flags, fd, offset);
}

#define NEXT_MEMORY(name, ...)                   \
	static union {                           \
		void *p;                         \
		void *(*fn)(__VA_ARGS__);        \
	} name##_next;                           \
	if (next(&name##_next.p, #name) == NULL) \
		return NULL;

void *malloc(size_t n)
{
	NEXT_MEMORY(malloc, size_t)
	return fails("malloc") ? NULL : malloc_next.fn(n);
}

void *calloc(size_t count, size_t n)
{
	NEXT_MEMORY(calloc, size_t, size_t)
	return fails("malloc") ? NULL : calloc_next.fn(count, n);
}

void *realloc(void *p, size_t n)
{
	NEXT_MEMORY(realloc, void *, size_t)
	return fails("malloc") ? NULL : realloc_next.fn(p, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
	NEXT_MEMORY(aligned_alloc, size_t, size_t)
	return fails("malloc") ? NULL : aligned_alloc_next.fn(alignment, n);
}
