/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Tables that a file may have many of: lists such as [[upstream]], and named ones such as [group.NAME]. Each kind
 * has an option table of its own over a struct of its own; the elements are an array in the configuration.
 * Files that are read one after another append to a list; named tables of one name are one table. Pure.
 */
#include "policy/option.h"
#include "policy/place.h"

/* Tables of these end with a row whose name is NULL. */
struct option_section {
	const char *name; /* "upstream", or "outgoing.users" */
	bool named;       /* [group.NAME]; else [[upstream]] */
	/* Their names begin with "upstream." or, of a named one, "group.NAME.". */
	const struct option *options;
	size_t offset; /* in the configuration, of a struct option_elements */
	size_t size;   /* of an element */
	size_t place;  /* in the element, of its struct place: the line of its header */
	size_t places; /* in the element, of its struct places: of its options */
	size_t key;    /* of a named one: in the element, of a char *, owned: NAME */
	size_t max;    /* elements that files may have */
};

/* How the elements lie in the configuration: a pointer, owned, and their number. */
struct option_elements {
	void *entries;
	size_t n;
};

#define OPTION_ELEMENTS_AT(type, member, count)                                       \
	_Static_assert(offsetof(struct type, count) ==                                \
				       offsetof(struct type, member) +                \
					       offsetof(struct option_elements, n) && \
			       sizeof(((struct type *)0)->count) == sizeof(size_t),   \
		       "a struct option_elements lies there")

#define OPTION_KEY_MAX 63 /* bytes of NAME: letters, digits, '-', '_' */

/* Whether `name` can be the NAME of a table. */
bool option_key_is_valid(const char *name);

/* option_set_all() of a document that may have such tables. `file` outlives the configuration: the places of
 * the elements point to it. */
int option_section_set_all(const struct option *table, const struct option_section *sections,
			   void *conf, const struct toml_doc *doc, const char *file,
			   struct diag *d);

/* A new last element, every option of it its default; earlier elements may move. `key` is copied (a named one),
 * or NULL. NULL: no memory. */
void *option_section_add(const struct option_section *s, void *conf, const char *key,
			 struct place place);

/* Where the option of that element, "warm", was written; if it was not, where its table begins. */
struct place option_section_place(const struct option_section *s, const void *element,
				  const char *option);

/* What files wrote, as option_dump(): elements that have no place are left out. */
void option_section_dump(const struct option_section *sections, const void *conf,
			 struct strbuf *out);

/* Frees all elements. */
void option_section_release(const struct option_section *sections, void *conf);
