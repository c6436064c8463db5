/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The line of `sf run` that says how far it is. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "libsf/cmd/run.h"

static bool wanted, shown;

void progress_init(bool quiet)
{
	wanted = !quiet && isatty(STDERR_FILENO);
}

void progress_clear(void)
{
	if (shown)
		fputs("\r\033[K", stderr);
	shown = false;
}

void progress_show(const char *format, ...)
{
	va_list args;

	if (!wanted)
		return;
	/* what it stands below must be out, where both are the same terminal */
	fflush(stdout);
	fputs("\r\033[K", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fflush(stderr);
	shown = true;
}
