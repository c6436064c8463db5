/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest with the kernel module under a plain QEMU, with the test as its host: it shares the
 * guest's RAM, hears the doorbell, writes letters, and sees every frame that the guest sends.
 */
#ifndef TESTS_KMOD_VM_H
#define TESTS_KMOD_VM_H

#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/kmod.h"

#define VM_WAIT_MS 300000	/* for what comes soon on a machine that is not busy */

struct vm_config {
	const char *cmdline;	/* added to what every guest gets; NULL: nothing */
	const char *nic;	/* options of the NIC, as in ",ctrl_rx=off"; NULL: no NIC */
	const char *save;	/* file of a saved state to begin with, stopped; NULL: boots */
	unsigned ram_mib;	/* 0: 256 */
	bool one_cpu;
	bool no_doorbell;
	bool no_generation;	/* no device that tells of VM generations */
	bool no_outside;	/* nobody but the test at the other end of the NIC */
};

struct vm {
	pid_t pid;
	int qmp, port, bell, wire;
	int ram_fd;
	uint8_t *ram;
	size_t ram_bytes;
	struct sfk_window *window;	/* of the last vm_hold() */
	struct frames *frames;	/* what the guest has sent; NULL without a NIC */
	char console[64];	/* path of a file with what the guest's kernel said */
};

/* Boots a guest. Ends the test program with status 77 if something for it is missing. */
struct vm *vm_start(const struct vm_config *config);
/* Fails the test if the guest's kernel complained about anything, then ends it. */
void vm_stop(struct vm *vm);
/* Ends it without a look. */
void vm_kill(struct vm *vm);

/* A QMP command, as in "{\"execute\":\"stop\"}". Return: its answer, good until the next. */
const char *vm_qmp(struct vm *vm, const char *command);
/* Saves the state, RAM and all, into a file, and leaves the VM stopped. */
void vm_save(struct vm *vm, const char *path);

/* Begins a shell command in the guest. One at a time. */
void vm_begin(struct vm *vm, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Return: what it wrote, good until the next, with its status in *status. */
const char *vm_end(struct vm *vm, int *status);
/* Both. The status has to be 0. */
const char *vm_run(struct vm *vm, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, any status. */
const char *vm_try(struct vm *vm, int *status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/*
 * Starts a program in the background, and waits until it says that it is ready. /tmp/out in the
 * guest has what it writes.
 */
void vm_spawn(struct vm *vm, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Return: the number after "name=" in a command's output; fails the test if there is none. */
long long vm_number(const char *output, const char *name);

/* Return: the window, where the guest says it is; NULL if there is no module. */
struct sfk_window *vm_window(struct vm *vm);
const uint64_t *vm_bitmap(const struct sfk_window *window);
/* Return: true if the bell is heard within `ms`. */
bool vm_hears(struct vm *vm, int ms);
/*
 * Has the guest hold, waits for the bell, stops the VM and sees that it is held. The command goes
 * on in the guest: vm_end() after vm_answer() has its outcome.
 */
struct sfk_window *vm_hold(struct vm *vm, uint64_t op, const char *nic);
/* Puts the letter into the window and lets the VM go on. What it had sent is in the frames. */
void vm_answer(struct vm *vm, const struct sfk_letter *letter);

#endif
