/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tests of memtap stand on: this program plays sfd, forked children play the VMs, and
 * sf-memtap is the real one.
 *
 * A "host" is one sf-memtap with its UDP socket on the loopback. A "vm" is a process that maps
 * memory like QEMU does and does with it what it is told. Nothing is timed; everything that is
 * waited for is waited for on a descriptor, TEST_PATIENCE_MS at most.
 */
#ifndef TESTS_MEMTAP_HARNESS_H
#define TESTS_MEMTAP_HARNESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/memtap.h"

#define TEST_PATIENCE_MS 120000
#define SKIP 77

/* Ends the program with 77 and a sentence if this machine cannot do it. */
void need_userfaultfd(void);

/* ── memory with a known content ── */

/*
 * The content of every page follows from a seed: about a seventh are never written (holes), as many
 * are written with zeros, the others are full of numbers. With CONTENT_FULL all are.
 */
#define CONTENT_FULL (1ull << 63)
enum content_kind { CONTENT_HOLE, CONTENT_ZEROS, CONTENT_NUMBERS };
enum content_kind content_kind(uint64_t seed, uint64_t gfn);
void content_page(uint64_t seed, uint64_t gfn, uint8_t page[MEMTAP_PAGE_BYTES]);

/* ── page files ── */

struct test_file {
	uint32_t number;
	uint64_t pages;
	int page_fd, map_fd;
};

struct test_file test_file_create(uint32_t number, uint64_t pages);
void test_file_destroy(struct test_file *f);
uint64_t test_file_blocks(int memfd);	/* pages that are really there */
uint64_t test_file_count(const struct test_file *f, enum page_state state);

/* ── dead pages and windows ── */

/* A bitmap of dead pages, none of them dead. Return: a memfd. */
int test_dead_create(uint64_t pages);
void test_dead_set(int dead_fd, uint64_t first, uint64_t count);

/* A clone's window: `pages` of its RAM from `first` on, and the image of the first. */
struct test_window {
	uint64_t first, pages;
	int fd;			/* -1: none */
	uint8_t *map;		/* shared; its first page is never to be touched */
};

/* The image is the content of `seed`, no page is freed. */
struct test_window test_window_create(uint64_t first, uint64_t pages, uint64_t seed);
void test_window_destroy(struct test_window *w);

/* The guest frees pages of the file. */
void test_window_free(struct test_window *w, uint64_t first, uint64_t count);

/* The first page as it is in the memfd. Return: false if nobody has put it there. */
bool test_window_letter(const struct test_window *w, uint8_t page[MEMTAP_PAGE_BYTES]);

/* ── hosts ── */

struct test_host {
	pid_t pid;
	int control;
	int udp, group;		/* survive the process; -1: no group */
	struct sockaddr_in6 addr;
	uint64_t pages;
};

/* Where a host is: a network namespace (path, NULL: this one) and an IPv4 address in it. */
struct test_place {
	const char *netns, *address;
};

/* A UDP socket there, of IPv4, or IPv6 with a mapped address. *mapped gets its address. */
int place_socket(const struct test_place *place, sa_family_t family, struct sockaddr_in6 *mapped);

/* From here on hosts get a socket for groups, too: of IPv4, at this address and port. */
void harness_group(const char *address, uint16_t port);

/* Starts one and says MEMTAP_INIT. `fault`: its SF_FAULT, or NULL. */
struct test_host host_start_at(const struct test_place *place, uint64_t pages,
			       uint32_t sweep_pages_per_s, const char *fault);
/* The same on 127.0.0.1. */
struct test_host host_start(uint64_t pages, uint32_t sweep_pages_per_s, const char *fault);

/* Another process for the same host, and nothing is said to it. */
void host_spawn(struct test_host *h, const char *fault);

/* Kills it with SIGKILL, and waits until it is dead. */
void host_kill(struct test_host *h);

/* Another process for the same host; MEMTAP_INIT again. */
void host_restart(struct test_host *h, uint32_t sweep_pages_per_s);

/* Closes the control socket. Return: the wait status. */
int host_stop(struct test_host *h);

/* Waits for the process to end by itself. Return: the wait status. */
int host_wait(struct test_host *h);

/* Says something. Return: its error, -errno if it cannot be said. `stats` may be NULL. */
int host_say(struct test_host *h, const struct memtap_request *r, const int *fds, unsigned nfds,
	     struct memtap_stats *stats);

/* Sends without waiting for the answer. */
int host_send(struct test_host *h, const struct memtap_request *r, const int *fds, unsigned nfds);
int host_answer(struct test_host *h, struct memtap_stats *stats);

/* Snapshot `number` has a key that follows from it. */
int host_file(struct test_host *h, const struct test_file *f, uint32_t flags);
struct memtap_request arm_request(uint32_t file, uint64_t number, uint32_t flags);
int host_arm(struct test_host *h, uint32_t file, uint64_t number, uint32_t flags);
struct memtap_request begin_request(uint32_t file, uint64_t number, const struct test_host *from,
				    uint32_t flags);
int host_begin(struct test_host *h, uint32_t file, uint64_t number, const struct test_host *from,
	       uint32_t flags);
int host_begin_local(struct test_host *h, uint32_t file, uint32_t other, uint32_t flags);
int host_clone_gone(struct test_host *h, uint32_t vm);

/* Says it until it is done. Return: the first answer. */
int host_file_gone(struct test_host *h, uint32_t file);
struct memtap_stats host_stats(struct test_host *h, uint32_t vm);
void snapshot_key(uint64_t number, uint8_t key[MEMTAP_KEY_BYTES]);

/* ── VMs ── */

enum vm_op {
	VM_FILL,	/* write the content of `seed`, but for holes */
	VM_POKE,	/* write one byte of each page of the order */
	VM_CHECK,	/* answer: pages that are not as `seed` says */
	VM_ZEROS,	/* answer: pages that are not all zeros */
	VM_TOUCH,	/* read one byte of each of `pages` pages from `first` on, every `step`th */
	VM_TIME,	/* the same, and note in vm_times[gfn] how many ns it took */
};

struct vm_order {
	uint32_t op;
	uint32_t threads;
	uint64_t seed, first, pages, step;
};

/* If not NULL when a VM is made: shared with it. */
extern uint64_t *vm_times;

struct test_vm {
	pid_t pid;
	int orders;
	int uffd;	/* as sfd keeps it */
	int ram_fd;	/* of a parent: its RAM; else -1 */
	uint64_t base, pages;
	const struct test_window *window;	/* of a clone that has one; else NULL */
};

/* A VM with RAM of its own, shared. */
struct test_vm vm_parent(uint64_t pages);
/* A VM that maps a page file privately. */
struct test_vm vm_clone(const struct test_file *f);
/* The same with a window (stays the caller's, and must outlive the VM) over its RAM. */
struct test_vm vm_clone_with(const struct test_file *f, const struct test_window *w);
void vm_end(struct test_vm *vm);

/* Gives a VM to a host. Return: as host_say(). */
int vm_give_parent(struct test_vm *vm, struct test_host *h, uint32_t flags);
int vm_give_clone(struct test_vm *vm, struct test_host *h, uint32_t file, uint32_t number,
		  uint32_t flags);

/* Waits until the background has protected all of it, or lifted all protection. */
void vm_wait_protected(const struct test_vm *vm, bool is_protected);

/* Tells it to do something with all its memory, by `threads` threads. */
void vm_start(struct test_vm *vm, enum vm_op op, uint64_t seed, uint32_t threads);
void vm_order(struct test_vm *vm, const struct vm_order *order);
/* Return: its answer; UINT64_MAX if it is dead. */
uint64_t vm_wait(struct test_vm *vm);
/* Return: true if it has answered already. */
bool vm_is_ready(struct test_vm *vm, int wait_ms);
uint64_t vm_do(struct test_vm *vm, enum vm_op op, uint64_t seed, uint32_t threads);
/* The same to some of its memory, by one thread. */
uint64_t vm_do_some(struct test_vm *vm, enum vm_op op, uint64_t seed, uint64_t first,
		    uint64_t pages);

/* ── CUnit ── */

struct test {
	const char *name;
	void (*run)(void);
};

/* Runs the tests, or those whose names contain argv[1]. Return: for main(). */
int run_tests(const char *suite, const struct test *tests, unsigned count, int argc, char **argv);

#endif
