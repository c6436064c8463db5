/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks into windows, translates their bitmaps, writes letters.
 *
 * A booted VM's window is reached through the RAM's file, by pread() and pwrite(): a page that is
 * not there, or a file that somebody made shorter, is an error then and no signal.
 */
#define _GNU_SOURCE
#include "host/sfd/window.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"

#define WORD_BITS 64u
#define LETTER_AT offsetof(struct sfk_window, letter)

_Static_assert(sizeof(struct agent_resume) <= SFK_NOTE_BYTES, "it fits the note");
_Static_assert(sizeof(struct sfk_window) <= SFK_PAGE_BYTES, "it fits its page");
_Static_assert(!(SFK_LOW_GFNS % WORD_BITS) && !(SFK_HIGH_GFN % WORD_BITS), "words stay words");

bool window_fits(const struct agent_window *w, uint64_t ram_bytes)
{
	const uint64_t pages = ram_bytes / SFK_PAGE_BYTES;
	const uint64_t low = pages < SFK_LOW_GFNS ? pages : SFK_LOW_GFNS;
	const uint64_t high = pages - low;

	if (!w->pages || w->pages > SFK_MAX_WINDOW_PAGES)
		return false;
	if (w->gfn < low)
		return w->pages <= low - w->gfn;
	return w->gfn >= SFK_HIGH_GFN && w->gfn - SFK_HIGH_GFN < high &&
	       w->pages <= high - (w->gfn - SFK_HIGH_GFN);
}

bool window_same(const struct agent_window *a, const struct agent_window *b)
{
	return a->pages == b->pages && (!a->pages || a->gfn == b->gfn);
}

uint64_t window_offset(const struct agent_window *w)
{
	return sfk_file_page(w->gfn) * SFK_PAGE_BYTES;
}

uint64_t window_bytes(const struct agent_window *w)
{
	return w->pages * SFK_PAGE_BYTES;
}

static int read_full(int fd, void *to, size_t len, uint64_t at)
{
	ssize_t got = pread(fd, to, len, (off_t)at);

	if (got < 0)
		return -errno;
	return (size_t)got == len ? 0 : -EIO;
}

static int write_full(int fd, const void *from, size_t len, uint64_t at)
{
	ssize_t put = pwrite(fd, from, len, (off_t)at);

	if (put < 0)
		return -errno;
	return (size_t)put == len ? 0 : -EIO;
}

/* ---- a booted VM's ---- */

const char *window_check(const struct agent_window *w, uint64_t op, const struct sfk_window *head)
{
	if (head->magic != SFK_MAGIC)
		return "the guest's kernel module is not where its agent says";
	if (head->version != SFK_VERSION)
		return "the guest's kernel module has another version than this host";
	if (head->gfn != w->gfn || head->pages != w->pages ||
	    head->bits > (w->pages - 1) * SFK_PAGE_BYTES * 8)
		return "the guest's kernel module contradicts its agent";
	if (head->state != SFK_HELD || head->held_op != op)
		return "the guest's kernel module does not hold it";
	return NULL;
}

const char *window_read(int ram_fd, const struct agent_window *w, uint64_t op,
			struct sfk_window *head)
{
	memset(head, 0, sizeof(*head));
	if (read_full(ram_fd, head, WINDOW_HEAD_BYTES, window_offset(w)))
		return "the window of the guest's kernel module cannot be read";
	return window_check(w, op, head);
}

double window_hold_ms(const struct sfk_window *head)
{
	return head->magic ? (double)head->hold_ns / 1e6 : -1;
}

static void copy_words(uint64_t *to, const uint64_t *from, uint64_t from_count, uint64_t first,
		       uint64_t count)
{
	uint64_t there = from_count > first ? from_count - first : 0;

	memset(to, 0, count * sizeof(*to));
	memcpy(to, from + (there ? first : 0), (there < count ? there : count) * sizeof(*to));
}

static void clear_bits(uint64_t *words, uint64_t first, uint64_t count)
{
	for (uint64_t bit = first; bit < first + count; bit++)
		words[bit / WORD_BITS] &= ~(1ull << bit % WORD_BITS);
}

uint64_t window_translate(const uint64_t *bitmap, uint64_t bits, const struct agent_window *w,
			  uint64_t *dead, uint64_t pages)
{
	const uint64_t words = pages / WORD_BITS, given = (bits + WORD_BITS - 1) / WORD_BITS;
	const uint64_t low = SFK_LOW_GFNS / WORD_BITS;
	uint64_t count = 0;

	copy_words(dead, bitmap, given, 0, words < low ? words : low);
	if (words > low)
		copy_words(dead + low, bitmap, given, SFK_HIGH_GFN / WORD_BITS, words - low);
	if (bits % WORD_BITS) { /* what lies behind the last bit in its word */
		uint64_t page = sfk_file_page(bits), end = (given * WORD_BITS) - bits;

		if ((bits < SFK_LOW_GFNS || bits >= SFK_HIGH_GFN) && page < pages)
			clear_bits(dead, page, end);
	}
	clear_bits(dead, sfk_file_page(w->gfn), w->pages);
	for (uint64_t i = 0; i < words; i++)
		count += (uint64_t)__builtin_popcountll(dead[i]);
	return count;
}

size_t window_dead_bytes(uint64_t ram_bytes)
{
	uint64_t pages = ram_bytes / SFK_PAGE_BYTES;

	return (size_t)((pages + WORD_BITS - 1) / WORD_BITS) * sizeof(uint64_t);
}

int window_read_dead(int ram_fd, const struct agent_window *w, const struct sfk_window *head,
		     uint64_t ram_bytes, uint64_t **dead, uint64_t *count)
{
	const size_t words = (size_t)((head->bits + WORD_BITS - 1) / WORD_BITS);
	_cleanup_free_ uint64_t *bitmap = calloc(words + 1, sizeof(*bitmap));
	_cleanup_free_ uint64_t *made = calloc(1, window_dead_bytes(ram_bytes));
	int rc;

	if (!bitmap || !made)
		return -ENOMEM;
	rc = words ? read_full(ram_fd, bitmap, words * sizeof(*bitmap),
			       window_offset(w) + SFK_PAGE_BYTES)
		   : 0;
	if (rc)
		return rc;
	*count = window_translate(bitmap, head->bits, w, made, ram_bytes / SFK_PAGE_BYTES);
	*dead = steal_ptr(&made);
	return 0;
}

int window_dead_fd(const void *dead, size_t dead_bytes)
{
	_cleanup_fd_ int fd = memfd_create("sf-dead", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc;

	if (fd < 0)
		return -errno;
	rc = write_full(fd, dead, dead_bytes, 0);
	if (!rc && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		rc = -errno;
	return rc ? rc : steal_fd(&fd);
}

/* ---- letters ---- */

void window_letter(struct sfk_letter *letter, const struct agent_resume *note)
{
	*letter = (struct sfk_letter){
		.turn = note->op,
		.id = note->id,
		.realtime_ns = note->realtime_ns,
		.prefix = note->address ? note->prefix : 0,
		.prefix6 = note->prefix6,
		.address = note->address,
		.gateway = note->gateway,
		.parent = note->parent,
	};
	memcpy(letter->mac, note->mac, sizeof(letter->mac));
	memcpy(letter->address6, note->address6, sizeof(letter->address6));
	randombytes_buf(letter->entropy, sizeof(letter->entropy));
	memcpy(letter->note, note, sizeof(*note));
}

void window_letter_wipe(struct sfk_letter *letter)
{
	sodium_memzero(letter, sizeof(*letter));
}

int window_post(int ram_fd, const struct agent_window *w, const struct sfk_letter *letter)
{
	const size_t turn = sizeof(letter->turn);
	const uint64_t at = window_offset(w) + LETTER_AT;
	int rc;

	_Static_assert(!offsetof(struct sfk_letter, turn), "it comes first");
	/* A turn that is half written is another turn: nobody takes it for the whole. */
	rc = write_full(ram_fd, (const uint8_t *)letter + turn, sizeof(*letter) - turn, at + turn);
	return rc ? rc : write_full(ram_fd, &letter->turn, turn, at);
}

/* ---- a clone's ---- */

int window_create(uint64_t pages)
{
	_cleanup_fd_ int fd = memfd_create("sf-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)((pages + 1) * SFK_PAGE_BYTES)))
		return -errno;
	/* QEMU has it, and could cut it off under whoever else looks at it */
	if (fallocate(fd, 0, SFK_PAGE_BYTES, (off_t)(pages * SFK_PAGE_BYTES)) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return steal_fd(&fd);
}

uint64_t window_charge(uint64_t pages)
{
	return pages ? (pages + 1) * SFK_PAGE_BYTES : 0;
}

int window_post_clone(int fd, uint64_t pages, const struct sfk_window *head,
		      const struct sfk_letter *letter)
{
	struct sfk_window page = *head;
	int rc;

	page.letter = *letter;
	rc = write_full(fd, &page, sizeof(page), pages * SFK_PAGE_BYTES);
	sodium_memzero(&page, sizeof(page));
	return rc;
}
