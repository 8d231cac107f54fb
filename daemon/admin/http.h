/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A few pages by HTTP, for monitoring: libmicrohttpd without threads, driven by the main thread's loop through its
 * epoll descriptor. Connections are accepted here, few at once, and each has one request and little time for it,
 * whatever its client does; further ones wait in the kernel's queue. Pages are made when they are asked for. Nobody is
 * asked who he is, and nothing can be changed. Main thread.
 */
#include "daemon/core/loop.h"
#include "policy/conf.h"

#define HTTP_CLIENTS_MAX 32
#define HTTP_TIME_MS     5000 /* for request and answer; a scraper's own patience is 10 s by default */

enum http_page { HTTP_METRICS, HTTP_STATUS };

/* Appends the page. */
typedef void http_fn(void *ctx, enum http_page page, struct strbuf *out);

struct http;

/* Serves at each address of `at`; of a list that names both families alike (`optional`) one that this host lacks is left
 * out, with a line in the log. *out is NULL if the list is empty. 0 or -errno with `d`. */
int http_new(struct loop *loop, const struct addr_list *at, bool optional, http_fn *fn, void *ctx,
	     struct http **out, struct diag *d);
/* Leaves the addresses to a successor; who has been accepted is answered. */
void http_drain(struct http *h);
/* NULL is fine for both. */
void http_free(struct http *h);

/* What may be open at once. */
size_t http_descriptors(const struct conf *c);
