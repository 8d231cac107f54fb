/* SPDX-License-Identifier: MIT */
#include "daemon/core/pipes.h"

#include <fcntl.h>
#include <unistd.h>

#include "daemon/core/shared.h"

#define SOFT_PAGES_DEFAULT 16384

void pipes_init(struct pipes *p, size_t max)
{
	*p = (struct pipes){.max = max};
	list_init(&p->free);
}

static void pipe_close(struct pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	free(pipe);
}

void pipes_destroy(struct pipes *p)
{
	struct list *node;

	BUG_ON(p->live != 0);
	while ((node = list_pop(&p->free)) != NULL)
		pipe_close(container_of(node, struct pipe, node));
	p->idle = 0;
}

/* As large as the kernel lets, halving: over the soft limit it refuses any growth, and fs.pipe-max-size
 * bounds everybody. Returns the size. */
static uint32_t pipe_enlarge(int fd)
{
	int cap;

	for (int bytes = PIPE_BYTES; bytes > PIPE_BYTES_MIN; bytes /= 2) {
		if (fcntl(fd, F_SETPIPE_SZ, bytes) >= 0)
			break;
	}
	cap = fcntl(fd, F_GETPIPE_SZ);
	return cap > 0 ? (uint32_t)cap : 0;
}

static struct pipe *pipe_new(void)
{
	struct pipe *pipe = malloc(sizeof(*pipe));
	int fds[2];

	if (pipe == NULL)
		return NULL;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(pipe);
		return NULL;
	}
	*pipe = (struct pipe){.in = fds[1], .out = fds[0], .cap = pipe_enlarge(fds[1])};
	list_init(&pipe->node);
	/* What is beyond the soft limit gets two pages. */
	if (pipe->cap < PIPE_BYTES_MIN) {
		pipe_close(pipe);
		return NULL;
	}
	return pipe;
}

struct pipe *pipes_get(struct pipes *p)
{
	struct list *node = list_pop(&p->free);
	struct pipe *pipe = NULL;

	if (node != NULL) {
		pipe = container_of(node, struct pipe, node);
		SHARED_SUB(p->idle, 1);
	} else if (p->live < p->max && (!p->exhausted || p->live == 0)) {
		pipe = pipe_new();
		p->exhausted = pipe == NULL;
	}
	if (pipe != NULL)
		SHARED_ADD(p->live, 1);
	return pipe;
}

void pipes_put(struct pipes *p, struct pipe *pipe)
{
	if (pipe == NULL)
		return;
	BUG_ON(p->live == 0);
	list_del(&pipe->node);
	SHARED_SUB(p->live, 1);
	p->exhausted = false;
	if (pipe->fill > 0) {
		pipe_close(pipe);
		return;
	}
	pipe->spent = false;
	list_add_tail(&p->free, &pipe->node);
	SHARED_ADD(p->idle, 1);
}

size_t pipes_limit(void)
{
	FILE *f = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");
	unsigned long pages = SOFT_PAGES_DEFAULT;

	if (f != NULL) {
		if (fscanf(f, "%lu", &pages) != 1)
			pages = SOFT_PAGES_DEFAULT;
		fclose(f);
	}
	if (pages == 0) /* no limit */
		pages = SOFT_PAGES_DEFAULT;
	return pages * (size_t)sysconf(_SC_PAGESIZE) / PIPE_BYTES;
}
