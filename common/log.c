/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log of every Snowflock program: whole lines to standard error, so that no two are mixed. */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *log_program = "snowflock";
static enum log_level log_limit = LOG_LVL_WARN;
static const char *const level_names[] = { "err", "warn", "info", "debug" };

void log_init(const char *program, enum log_level fallback)
{
	const char *wanted = getenv("SF_LOG");

	log_program = program;
	log_limit = fallback;
	for (unsigned i = 0; wanted && i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (!strcmp(wanted, level_names[i]))
			log_limit = (enum log_level)i;
	}
}

bool log_enabled(enum log_level level)
{
	return level <= log_limit;
}

void log_line(enum log_level level, const char *format, ...)
{
	int saved_errno = errno;
	struct timespec now;
	char line[1024];
	va_list args;
	int used, more;

	clock_gettime(CLOCK_REALTIME, &now);
	used = snprintf(line, sizeof(line), "%s: %lld.%03ld %s: ", log_program,
			(long long)now.tv_sec, now.tv_nsec / 1000000, level_names[level]);
	va_start(args, format);
	more = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	va_end(args);
	if (more > 0)
		used += more < (int)sizeof(line) - used - 1 ? more : (int)sizeof(line) - used - 2;
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)used) < 0)
		errno = saved_errno;	/* nowhere left to complain */
	errno = saved_errno;
}
