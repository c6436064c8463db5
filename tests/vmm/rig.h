/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM under test: a struct vmm with everything around it that sfd would provide. */
#ifndef TESTS_VMM_RIG_H
#define TESTS_VMM_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/vmm/vmm.h"
#include "tests/vmm/tap.h"

struct event_base;

#define RIG_TEXT_BYTES 65536

/* A VM, what it printed, and what its callbacks said. */
struct machine {
	struct event_base *base;
	struct vmm *vmm;
	struct event *readable;
	char name[16];
	int console;		/* we read */
	int xenstore, agent;	/* our ends */
	struct tap tap;
	int uffd;
	uint64_t ram_base;	/* in QEMU */
	bool refuse_ram;	/* before machine_start(), as is the window */
	int window_fd;		/* 0: no window */
	uint64_t window_offset;
	uint64_t window_bytes;
	bool rung;
	bool ready;
	bool ended;
	bool done;		/* of the last call */
	uint64_t done_ns;	/* CLOCK_MONOTONIC */
	int error;
	char why[1024];		/* of the last call, or of the end */
	char text[RIG_TEXT_BYTES];
	size_t text_len;
};

/* What all VMs of a test have in common. */
struct rig {
	struct event_base *base;
	enum vmm_accel accel;
	const char *shim;
	const char *kernel;
	const char *initrd;
	const char *cmdline;
};

/* Starts a VM over `ram_fd`. Return: 0, or -errno with a sentence in machine->why. */
int machine_start(struct machine *machine, const struct rig *rig, const char *name, int ram_fd,
		  uint64_t ram_bytes, unsigned cpus, bool clone);

/* Ends it and frees all it has. */
void machine_stop(struct machine *machine);

/* Runs the event loop until *flag, or the machine's end. Return: true if *flag came in time. */
bool machine_await(struct machine *machine, const bool *flag, unsigned limit_ms);

/* Runs the event loop until the machine printed `text`. */
bool machine_await_text(struct machine *machine, const char *text, unsigned limit_ms);

/* The three calls, awaited. Return: 0 or -errno; machine->why has the sentence. */
int machine_save(struct machine *machine, int fd);
int machine_cont(struct machine *machine);
int machine_load(struct machine *machine, int fd);

/* For calls that are awaited together: a vmm_done for machine->done, with the machine as arg. */
void machine_done(void *arg, int error, const char *why);

/* A memfd of that size. Return: a descriptor; ends the test if there is none. */
int rig_memfd(uint64_t bytes);

/* Runs the event loop for a while. */
void rig_run_ms(struct event_base *base, unsigned ms);

#endif
