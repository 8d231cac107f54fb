/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Prometheus' text format, version 0.0.4: a metric's name, what it is and its samples, a line each. Pure. Names are the
 * caller's to get right; label values and help may be anything that is UTF-8.
 */
#include "daemon/core/histogram.h"
#include "policy/strbuf.h"

struct exposition {
	struct strbuf *out;
	const char *prefix, *name; /* of the metric that samples belong to */
};

struct label {
	const char *name, *value;
};
struct labels {
	const struct label *items;
	size_t n;
};
#define LABELS(...)                                           \
	((struct labels){(const struct label[]){__VA_ARGS__}, \
			 sizeof((const struct label[]){__VA_ARGS__}) / sizeof(struct label)})
#define NO_LABELS ((struct labels){NULL, 0})

/* `type` is "counter", "gauge" or "histogram"; samples of this metric follow. */
void exposition_metric(struct exposition *x, const char *name, const char *type, const char *help);
void exposition_number(struct exposition *x, struct labels labels, uint64_t value);
void exposition_thousandths(struct exposition *x, struct labels labels, uint64_t value);
void exposition_histogram(struct exposition *x, struct labels labels,
			  const struct histogram_shape *shape, const struct histogram *h);
