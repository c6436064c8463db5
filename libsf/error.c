/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Errors: errno, and beside it a sentence for each thread. */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libsf/internal.h"
#include "libsf/sf.h"

#define LAST_ERRNO 255 /* none is higher on any Linux but for those of no user's business */

static _Thread_local char sentence[512];

int lsf_fail(int number, const char *format, ...)
{
	char text[sizeof(sentence)]; /* an argument may be the present sentence */
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(sentence, text, sizeof(text));
	errno = number;
	return -1;
}

int lsf_errno_number(const char *name, size_t len)
{
	for (int number = 1; number <= LAST_ERRNO; number++) {
		const char *known = strerrorname_np(number);

		if (known && strlen(known) == len && !strncmp(known, name, len))
			return number;
	}
	/* a second name on Linux */
	return len == strlen("ENOTSUP") && !strncmp(name, "ENOTSUP", len) ? ENOTSUP : EIO;
}

const char *sf_error(void)
{
	return sentence;
}
