/* SPDX-License-Identifier: MIT */
#include "daemon/admin/exposition.h"

#include <inttypes.h>

/* Room for a number of 64 bits and three decimals. */
#define NUMBER_MAX 32

static void escape(struct strbuf *out, const char *text, bool quoted)
{
	for (; *text != '\0'; text++) {
		if (*text == '\\')
			strbuf_puts(out, "\\\\");
		else if (*text == '\n')
			strbuf_puts(out, "\\n");
		else if (*text == '"' && quoted)
			strbuf_puts(out, "\\\"");
		else
			strbuf_putc(out, *text);
	}
}

/* Thousandths, without zeros at the end. */
static const char *decimal(uint64_t value, char out[NUMBER_MAX])
{
	int n = snprintf(out, NUMBER_MAX, "%" PRIu64 ".%03u", value / 1000,
			 (unsigned)(value % 1000));

	while (out[n - 1] == '0')
		out[--n] = '\0';
	if (out[n - 1] == '.')
		out[n - 1] = '\0';
	return out;
}

static const char *number(uint64_t value, unsigned unit, char out[NUMBER_MAX])
{
	if (unit == 1000)
		return decimal(value, out);
	snprintf(out, NUMBER_MAX, "%" PRIu64, value);
	return out;
}

void exposition_metric(struct exposition *x, const char *name, const char *type, const char *help)
{
	x->name = name;
	strbuf_printf(x->out, "# HELP %s%s ", x->prefix, name);
	escape(x->out, help, false);
	strbuf_printf(x->out, "\n# TYPE %s%s %s\n", x->prefix, name, type);
}

/* `le` NULL: none. */
static void sample(struct exposition *x, const char *suffix, struct labels labels, const char *le,
		   const char *value)
{
	const char *before = "{";

	strbuf_printf(x->out, "%s%s%s", x->prefix, x->name, suffix);
	for (size_t i = 0; i < labels.n; i++) {
		strbuf_printf(x->out, "%s%s=\"", before, labels.items[i].name);
		escape(x->out, labels.items[i].value, true);
		strbuf_putc(x->out, '"');
		before = ",";
	}
	if (le != NULL)
		strbuf_printf(x->out, "%sle=\"%s\"", before, le);
	strbuf_printf(x->out, "%s %s\n", labels.n > 0 || le != NULL ? "}" : "", value);
}

void exposition_number(struct exposition *x, struct labels labels, uint64_t value)
{
	char text[NUMBER_MAX];

	sample(x, "", labels, NULL, number(value, 1, text));
}

void exposition_thousandths(struct exposition *x, struct labels labels, uint64_t value)
{
	char text[NUMBER_MAX];

	sample(x, "", labels, NULL, decimal(value, text));
}

void exposition_histogram(struct exposition *x, struct labels labels,
			  const struct histogram_shape *shape, const struct histogram *h)
{
	char le[NUMBER_MAX], text[NUMBER_MAX];
	uint64_t n = 0;

	for (size_t i = 0; i < shape->n_bounds; i++) {
		n += h->counts[i];
		sample(x, "_bucket", labels, number(shape->bounds[i], shape->unit, le),
		       number(n, 1, text));
	}
	n += h->counts[shape->n_bounds];
	sample(x, "_bucket", labels, "+Inf", number(n, 1, text));
	sample(x, "_sum", labels, NULL, number(h->sum, shape->unit, text));
	sample(x, "_count", labels, NULL, number(n, 1, text));
}
