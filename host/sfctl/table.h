/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listings for people: one line per JSON object, columns as wide as they need to be. */
#ifndef HOST_SFCTL_TABLE_H
#define HOST_SFCTL_TABLE_H

#include <jansson.h>

#define CELL_BYTES 128

struct table_column {
	const char *title;
	const char *key; /* in the row's object */
	/* The cell's text; NULL: as it is. Return: the text, which may be in buf. */
	const char *(*text)(const json_t *value, char buf[CELL_BYTES]);
	int right; /* numbers: aligned to the right */
};

/* Prints an array of objects; the last column's row has no title. */
void table_print(const struct table_column *columns, const json_t *rows);

/* A value as text: strings bare, "-" for what is not there. Return: the text, which may be in buf.
 */
const char *cell_plain(const json_t *value, char buf[CELL_BYTES]);
const char *cell_size(const json_t *value, char buf[CELL_BYTES]);
/* A VM's disks: how many, their size, what is its own of them on its host; all together. */
const char *cell_disks(const json_t *value, char buf[CELL_BYTES]);
const char *cell_span(const json_t *value, char buf[CELL_BYTES]);

/* Prints JSON for programs. */
void print_json(const json_t *value);

/* Prints `key: value` lines, objects and arrays in it indented. */
void print_tree(const json_t *object, int indent);

#endif
