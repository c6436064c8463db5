/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A program that is run to its end for what it prints. */
#ifndef HOST_SFD_TOOL_H
#define HOST_SFD_TOOL_H

struct event_base;
struct tool;

#define TOOL_FD 3 /* where the program finds the descriptor it is given */

struct tool_events {
	/* Optional: it printed more on standard output; `text` is all there is of it. */
	void (*printed)(void *arg, const char *text);
	/*
	 * It ended: its exit status, or -1 if it was killed or never ran; what it printed on
	 * standard output, and on standard error. The tool is freed after this returns.
	 */
	void (*ended)(void *arg, int status, const char *text, const char *trouble);
};

/*
 * Runs argv[0], found in PATH, with `fd` (borrowed; -1: none) as TOOL_FD. It dies with us. Of its
 * output the first 64 KiB are kept. Return: the tool, or NULL with errno.
 */
struct tool *tool_start(struct event_base *base, const char *const *argv, int fd,
			const struct tool_events *events, void *arg);

/* Kills it; no callback follows. NULL is fine. */
void tool_stop(struct tool *tool);

#endif
