/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files in (puts, results of clones) and a clone's own result out. */
#ifndef AGENT_TRANSFER_H
#define AGENT_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/port.h"

struct transfer_in;
struct transfer_out;

struct transfers {
	struct port *port;
	const char *result_dir;
	struct transfer_in *in;
	unsigned in_count;
	struct transfer_out *out;	/* results to send; the first is under way */
	uint32_t last_number;		/* of a stream of ours */
};

void transfers_init(struct transfers *transfers, struct port *port, const char *result_dir);

/*
 * The frames of a transfer. `payload` is the frame's. Return: true if the stream is a transfer's
 * (or for transfer_put(), transfer_result(): it now is, or has ended again); *error is then -EPROTO
 * for what no sound host sends.
 */
bool transfer_put(struct transfers *transfers, uint32_t stream, const uint8_t *payload, size_t len,
		  int *error);
bool transfer_result(struct transfers *transfers, uint32_t stream,
		     const struct agent_result *result, int *error);
bool transfer_data(struct transfers *transfers, uint32_t stream, const uint8_t *data, size_t len,
		   int *error);
bool transfer_credit(struct transfers *transfers, uint32_t stream, uint32_t bytes, int *error);
bool transfer_stored(struct transfers *transfers, uint32_t stream, int error);
bool transfer_has(const struct transfers *transfers, uint32_t stream);

/*
 * Sends `length` bytes from the start of `fd`, which is taken over, as this clone's result. `done`
 * is called once, with 0 or an errno. Return: 0 or -errno (nothing taken).
 */
int transfer_send_result(struct transfers *transfers, int fd, uint64_t length,
			 void (*done)(void *arg, int error), void *arg);

/* Removes the results of a ticket's clones. Return: 0 or -errno. */
int transfers_forget(const struct transfers *transfers, uint32_t ticket);

/* The port has room again. */
void transfers_drained(struct transfers *transfers);

/* This is a clone: what was under way is forgotten. */
void transfers_become_clone(struct transfers *transfers);

#endif
