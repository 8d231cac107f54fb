/* SPDX-License-Identifier: MIT */
#include "policy/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define NAME_MAX_NEAREST 63 /* longer ones never match; ours are shorter */

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/* Levenshtein distance, one row of the matrix at a time. */
static size_t edit_distance(const char *a, size_t alen, const char *b, size_t blen)
{
	size_t row[NAME_MAX_NEAREST + 1];

	for (size_t j = 0; j <= blen; j++)
		row[j] = j;
	for (size_t i = 1; i <= alen; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= blen; j++) {
			size_t above = row[j];
			bool same = tolower((unsigned char)a[i - 1]) ==
				    tolower((unsigned char)b[j - 1]);

			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + !same);
			diagonal = above;
		}
	}
	return row[blen];
}

const char *nearest_word(const char *word, const char *const *names)
{
	size_t len = strlen(word);
	size_t best = (len + 2) / 3;
	const char *found = NULL;

	if (len > NAME_MAX_NEAREST)
		return NULL;
	for (; *names != NULL; names++) {
		size_t name_len = strlen(*names);
		size_t distance;

		if (name_len > NAME_MAX_NEAREST)
			continue;
		distance = edit_distance(word, len, *names, name_len);
		if (distance < best || (distance == best && found == NULL)) {
			best = distance;
			found = *names;
		}
	}
	return found;
}
