/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Puts the sentence of an error together. */
#include "host/vnet/why.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int why_set(const struct why *why, int error, const char *format, ...)
{
	char sentence[512];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	if (why->bytes > 0) {
		snprintf(why->text, why->bytes, "%s%s%s", sentence, error ? ": " : "",
			 error ? strerror(abs(error)) : "");
	}
	return -abs(error);
}
