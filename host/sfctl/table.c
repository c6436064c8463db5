/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables, trees and JSON on standard output. */
#include "host/sfctl/table.h"

#include <stdio.h>
#include <string.h>

#include "host/sfctl/text.h"

#define MAX_COLUMNS 16

const char *cell_plain(const json_t *value, char buf[CELL_BYTES])
{
	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_STRING: return *json_string_value(value) ? json_string_value(value) : "-";
	case JSON_INTEGER:
		snprintf(buf, CELL_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return buf;
	case JSON_REAL: snprintf(buf, CELL_BYTES, "%.3g", json_real_value(value)); return buf;
	case JSON_TRUE: return "yes";
	case JSON_FALSE: return "no";
	default: return "-";
	}
}

const char *cell_size(const json_t *value, char buf[CELL_BYTES])
{
	return json_is_integer(value) ? size_text((uint64_t)json_integer_value(value), buf) : "-";
}

const char *cell_span(const json_t *value, char buf[CELL_BYTES])
{
	return json_is_number(value) ? span_text(json_number_value(value), buf) : "-";
}

static uint64_t sum_of(const json_t *array, const char *key)
{
	uint64_t sum = 0;
	json_t *item;
	size_t i;

	json_array_foreach (array, i, item)
		sum += (uint64_t)json_integer_value(json_object_get(item, key));
	return sum;
}

const char *cell_disks(const json_t *value, char buf[CELL_BYTES])
{
	char bytes[TEXT_BYTES], own[TEXT_BYTES];

	if (!json_array_size(value))
		return "-";
	snprintf(buf, CELL_BYTES, "%zu: %s, own %s", json_array_size(value),
		 size_text(sum_of(value, "bytes"), bytes), size_text(sum_of(value, "own_bytes"), own));
	return buf;
}

static const char *cell(const struct table_column *column, const json_t *row, char buf[CELL_BYTES])
{
	const json_t *value = json_object_get(row, column->key);

	return column->text ? column->text(value, buf) : cell_plain(value, buf);
}

/* Names come from guests and other hosts: nothing in them may steer the terminal. */
static void put_safely(const char *text, int width, int right)
{
	int pad = width - (int)strlen(text);

	for (; right && pad > 0; pad--)
		putchar(' ');
	for (; *text; text++)
		putchar((unsigned char)*text < ' ' || *text == 127 ? '?' : *text);
	for (; pad > 0; pad--)
		putchar(' ');
}

void table_print(const struct table_column *columns, const json_t *rows)
{
	int widths[MAX_COLUMNS] = { 0 };
	char buf[CELL_BYTES];
	size_t count = 0, r;
	json_t *row;

	for (; columns[count].title && count < MAX_COLUMNS; count++) {
		widths[count] = (int)strlen(columns[count].title);
		json_array_foreach (rows, r, row) {
			int width = (int)strlen(cell(&columns[count], row, buf));

			widths[count] = width > widths[count] ? width : widths[count];
		}
	}
	for (size_t c = 0; c < count; c++) {
		put_safely(columns[c].title, c + 1 < count ? widths[c] : 0, columns[c].right);
		fputs(c + 1 < count ? "  " : "\n", stdout);
	}
	json_array_foreach (rows, r, row) {
		for (size_t c = 0; c < count; c++) {
			put_safely(cell(&columns[c], row, buf), c + 1 < count ? widths[c] : 0,
				   columns[c].right);
			fputs(c + 1 < count ? "  " : "\n", stdout);
		}
	}
}

void print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	putchar('\n');
}

static void print_value(const json_t *value, int indent)
{
	char buf[CELL_BYTES];
	size_t i;
	json_t *item;

	if (json_is_object(value) && json_object_size(value)) {
		putchar('\n');
		print_tree(value, indent + 2);
	} else if (json_is_array(value) && json_array_size(value)) {
		putchar('\n');
		json_array_foreach (value, i, item) {
			printf("%*s-", indent + 2, "");
			print_value(item, indent + 2);
		}
	} else {
		putchar(' ');
		put_safely(cell_plain(value, buf), 0, 0);
		putchar('\n');
	}
}

/* Fields whose name ends in a unit, or is one, are shown as people write it. */
static const char *with_unit(const char *key, const json_t *value, char buf[CELL_BYTES])
{
	size_t len = strlen(key);

	if (!strcmp(key, "bytes") && json_is_integer(value))
		return cell_size(value, buf);
	if (len > 6 && !strcmp(key + len - 6, "_bytes") && json_is_integer(value))
		return cell_size(value, buf);
	if (len > 3 && !strcmp(key + len - 3, "_ms") && json_is_number(value))
		return cell_span(value, buf);
	return NULL;
}

/* Return: the length of a field's name without its unit. */
static int name_len(const char *key)
{
	const char *unit = strrchr(key, '_');

	return (int)(unit ? (size_t)(unit - key) : strlen(key));
}

void print_tree(const json_t *object, int indent)
{
	char buf[CELL_BYTES];
	const char *key, *text;
	json_t *value;

	json_object_foreach ((json_t *)object, key, value) {
		text = with_unit(key, value, buf);
		if (!strcmp(key, "re"))
			continue;
		if (text)
			printf("%*s%.*s: %s\n", indent, "", name_len(key), key, text);
		else
			printf("%*s%s:", indent, "", key);
		if (!text)
			print_value(value, indent);
	}
}
