/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looks at one field; json_unpack() would cut what does not fit into an int. */
#include "host/sfd/fields.h"

bool field_u64(const json_t *msg, const char *name, uint64_t min, uint64_t max, uint64_t *value)
{
	const json_t *field = json_object_get(msg, name);
	json_int_t number = json_integer_value(field);

	if (!json_is_integer(field) || number < 0 || (uint64_t)number < min ||
	    (uint64_t)number > max)
		return false;
	*value = (uint64_t)number;
	return true;
}

bool field_unsigned(const json_t *msg, const char *name, unsigned min, unsigned max,
		    unsigned *value)
{
	uint64_t number;

	if (!field_u64(msg, name, min, max, &number))
		return false;
	*value = (unsigned)number;
	return true;
}

bool field_bool(const json_t *msg, const char *name, bool *value)
{
	const json_t *field = json_object_get(msg, name);

	*value = json_is_true(field);
	return !field || json_is_boolean(field);
}

uint64_t field_or(const json_t *msg, const char *name, uint64_t otherwise)
{
	uint64_t number;

	return field_u64(msg, name, 0, INT64_MAX, &number) ? number : otherwise;
}

const char *field_text(const json_t *msg, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(msg, name));

	return text ? text : otherwise;
}
