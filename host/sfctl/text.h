/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words for people: complaints, sizes, spans of time. */
#ifndef HOST_SFCTL_TEXT_H
#define HOST_SFCTL_TEXT_H

#include <stddef.h>
#include <stdint.h>

#define TEXT_BYTES 32 /* room for a size or a span */

/* Prints "sfctl: …" and a newline to standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "512M", "4G", "4096" (bytes), K, T; a B behind it is fine. Return: 0 or -EINVAL. */
int size_parse(const char *text, uint64_t *bytes);

/* "3.1 MB": powers of 1024. Return: buf. */
const char *size_text(uint64_t bytes, char buf[TEXT_BYTES]);

/* "41 ms", "12 s", "3 min 20 s", "2 h 5 min". Return: buf. */
const char *span_text(double ms, char buf[TEXT_BYTES]);

#endif
