/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers and the like in JSON messages, which others wrote: there, whole, and within bounds, or refused. */
#ifndef HOST_SFD_FIELDS_H
#define HOST_SFD_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Return: true and *value, or false if `msg` has no integer `name` from `min` to `max`. */
bool field_u64(const json_t *msg, const char *name, uint64_t min, uint64_t max, uint64_t *value);
bool field_unsigned(const json_t *msg, const char *name, unsigned min, unsigned max,
		    unsigned *value);

/* A boolean, which may be missing: false then. Return: true and *value, or false: it is no boolean. */
bool field_bool(const json_t *msg, const char *name, bool *value);

/* The same for what may be missing or wrong without harm. Return: the number, or `otherwise`. */
uint64_t field_or(const json_t *msg, const char *name, uint64_t otherwise);

/* Return: the text, or `otherwise`; lives as long as `msg`. */
const char *field_text(const json_t *msg, const char *name, const char *otherwise);

#endif
