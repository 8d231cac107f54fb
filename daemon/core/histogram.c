/* SPDX-License-Identifier: MIT */
#include "daemon/core/histogram.h"

#include "daemon/core/shared.h"
#include "policy/defs.h"

#define SECONDS(n) ((n)*UINT64_C(1000))
#define KIB(n)     ((n)*UINT64_C(1024))
#define MIB(n)     (KIB(n) * 1024)
#define GIB(n)     (MIB(n) * 1024)

#define SHAPE(name, unit_, ...)                                          \
	static const uint64_t name##_bounds[] = {__VA_ARGS__};           \
	_Static_assert(ARRAY_LEN(name##_bounds) <= HISTOGRAM_BOUNDS_MAX, \
		       "HISTOGRAM_BOUNDS_MAX is too small");             \
	const struct histogram_shape name = {                            \
		.bounds = name##_bounds,                                 \
		.n_bounds = ARRAY_LEN(name##_bounds),                    \
		.unit = unit_,                                           \
	}

SHAPE(histogram_waits, 1000, 1, 2, 5, 10, 25, 50, 100, 250, 500, SECONDS(1), 2500, SECONDS(5),
      SECONDS(10), SECONDS(30));
SHAPE(histogram_lasts, 1000, 5, 10, 25, 50, 100, 250, 500, SECONDS(1), 2500, SECONDS(5),
      SECONDS(10), SECONDS(30), SECONDS(60), SECONDS(300), SECONDS(1800), SECONDS(3600),
      SECONDS(6 * 3600), SECONDS(24 * 3600));
SHAPE(histogram_bytes, 1, KIB(1), KIB(4), KIB(16), KIB(64), KIB(256), MIB(1), MIB(4), MIB(16),
      MIB(64), MIB(256), GIB(1), GIB(4), GIB(16));

void histogram_add(struct histogram *h, const struct histogram_shape *shape, uint64_t value)
{
	size_t i = 0;

	while (i < shape->n_bounds && value > shape->bounds[i])
		i++;
	SHARED_ADD(h->counts[i], 1);
	SHARED_ADD(h->sum, value);
}
