/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words for people: complaints, sizes, spans of time. */
#include "host/sfctl/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char units[] = "KMGT";

void complain(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("sfctl: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

int size_parse(const char *text, uint64_t *bytes)
{
	unsigned long long value;
	unsigned shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	if (*end) {
		const char *unit = strchr(units, *end & ~0x20);

		if (!unit || !*unit || end[1 + (end[1] == 'B')])
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (value > UINT64_MAX >> shift)
		return -EINVAL;
	*bytes = (uint64_t)value << shift;
	return 0;
}

const char *size_text(uint64_t bytes, char buf[TEXT_BYTES])
{
	double value = (double)bytes;
	int unit = -1;

	while (value >= 1023.95 && unit < 3) {
		value /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(buf, TEXT_BYTES, "%u B", (unsigned)bytes);
	else
		snprintf(buf, TEXT_BYTES, value < 99.95 ? "%.1f %cB" : "%.0f %cB", value,
			 units[unit]);
	return buf;
}

const char *span_text(double ms, char buf[TEXT_BYTES])
{
	unsigned long long s = ms > 0 ? (unsigned long long)(ms / 1000) : 0;

	if (ms < 10)
		snprintf(buf, TEXT_BYTES, "%.1f ms", ms);
	else if (ms < 1000)
		snprintf(buf, TEXT_BYTES, "%.0f ms", ms);
	else if (s < 60)
		snprintf(buf, TEXT_BYTES, "%.1f s", ms / 1000);
	else if (s < 3600)
		snprintf(buf, TEXT_BYTES, "%llu min %llu s", s / 60, s % 60);
	else
		snprintf(buf, TEXT_BYTES, "%llu h %llu min", s / 3600, s / 60 % 60);
	return buf;
}
