/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The window of a guest's kernel module (proto/kmod.h), the host's side: what it says is checked
 * and taken out of the RAM's file, letters are put in. Nothing in it is believed beyond what harms
 * the guest alone.
 */
#ifndef HOST_SFD_WINDOW_H
#define HOST_SFD_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/agent-port.h"
#include "proto/kmod.h"

/* What the module has written in front of the letter: it goes into every clone's window. */
#define WINDOW_HEAD_BYTES offsetof(struct sfk_window, letter)

/* Return: true if that many pages are there, all of them RAM and in one piece. */
bool window_fits(const struct agent_window *w, uint64_t ram_bytes);
bool window_same(const struct agent_window *a, const struct agent_window *b);

/* Where it begins in the RAM's file, and its length there. */
uint64_t window_offset(const struct agent_window *w);
uint64_t window_bytes(const struct agent_window *w);

/* ---- a booted VM's, in its RAM ---- */

/*
 * Reads what the module says; the letter's part of `head` is zeros. Return: NULL if it holds the
 * guest for operation `op`, or else a sentence.
 */
const char *window_read(int ram_fd, const struct agent_window *w, uint64_t op,
			struct sfk_window *head);

/* Milliseconds from the hold to the bell, in the guest's time; negative: no head, nobody held. */
double window_hold_ms(const struct sfk_window *head);

/* The same check of a head that came from elsewhere. */
const char *window_check(const struct agent_window *w, uint64_t op, const struct sfk_window *head);

/*
 * Reads the bitmap of dead pages and makes it one of pages of the RAM's file: *dead, of
 * window_dead_bytes(), is the caller's to free(); *count of its bits are set. Return: 0 or -errno.
 */
int window_read_dead(int ram_fd, const struct agent_window *w, const struct sfk_window *head,
		     uint64_t ram_bytes, uint64_t **dead, uint64_t *count);
size_t window_dead_bytes(uint64_t ram_bytes);

/*
 * The translation alone: the first `bits` of `bitmap`, by guest page number, into `dead`, by page of
 * a file of `pages` pages (a multiple of 64), without the window's own. Return: bits that are set.
 */
uint64_t window_translate(const uint64_t *bitmap, uint64_t bits, const struct agent_window *w,
			  uint64_t *dead, uint64_t pages);

/* A sealed memfd with these bytes, as sf-memtap wants them. Return: the descriptor, or -errno. */
int window_dead_fd(const void *dead, size_t dead_bytes);

/* ---- letters ---- */

/* Writes the letter that tells a VM who it is, with new entropy: window_letter_wipe() it. */
void window_letter(struct sfk_letter *letter, const struct agent_resume *note);
void window_letter_wipe(struct sfk_letter *letter);

/* Puts a letter into a booted VM's window, its turn last. Return: 0 or -errno. */
int window_post(int ram_fd, const struct agent_window *w, const struct sfk_letter *letter);

/* ---- a clone's ---- */

/*
 * A memfd for one: its first page a hole, the bitmap all zeros, and one page more, for the letter.
 * Return: the descriptor, or -errno.
 */
int window_create(uint64_t pages);
/* The host's memory it takes. */
uint64_t window_charge(uint64_t pages);

/* Writes the page that sf-memtap gives the clone as its first. Return: 0 or -errno. */
int window_post_clone(int fd, uint64_t pages, const struct sfk_window *head,
		      const struct sfk_letter *letter);

#endif
