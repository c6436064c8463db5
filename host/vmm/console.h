/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What QEMU and the guest's serial console print: passed on, its end kept for error messages. */
#ifndef HOST_VMM_CONSOLE_H
#define HOST_VMM_CONSOLE_H

#include <stddef.h>

struct console;
struct event_base;

/*
 * Reads from the pipe `in` (taken over) and writes to `out` (duplicated; -1: dropped). Output that
 * `out` does not take at once is dropped: nobody's slowness stops a guest. Return: the console, or
 * NULL (errno; `in` is then not taken).
 */
struct console *console_create(struct event_base *base, int in, int out);

/* Reads what is left in the pipe, and says how it ended: its last printable text, on one line. */
void console_tail(struct console *console, char *text, size_t text_bytes);

/* NULL is fine. */
void console_destroy(struct console *console);

#endif
