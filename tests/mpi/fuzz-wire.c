/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzzing of what takes peers' bytes apart: frames, lists of strings, commands. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "mpi-shim/command.h"
#include "mpi-shim/wire.h"

#define INPUTS 20000u
#define MOST   512u

/* Touches all that the request points to. Return: its length. */
static size_t walk(const struct command_request *request)
{
	size_t sum = strlen(request->cwd);

	for (char **at = request->argv; *at; at++)
		sum += strlen(*at);
	for (char **at = request->env; *at; at++)
		sum += strlen(*at);
	return sum;
}

static int take(void *owner, const struct mpi_frame *frame, const uint8_t *payload)
{
	_cleanup_free_ uint8_t *copy = malloc(frame->length ? frame->length : 1);
	_cleanup_free_ void *memory = NULL;
	struct command_request request;
	size_t *sum = owner;

	if (!copy)
		return -ENOMEM;
	/* a copy of the right size, so that a byte too many is seen */
	memcpy(copy, payload, frame->length);
	if (!command_parse(copy, frame->length, "EXTRA=1", &request, &memory))
		*sum += walk(&request);
	return 0;
}

/* Makes bytes that are often nearly right. Return: how many. */
static size_t make(uint8_t *bytes)
{
	size_t len = sizeof(struct mpi_frame) + 8 + (size_t)(random() % (MOST - 64));
	struct mpi_frame frame = { .length = (uint32_t)(len - sizeof(frame)),
				   .type = (uint16_t)(random() % (MPI_TYPES + 1)) };
	struct mpi_counts counts = { .argc = (uint32_t)(random() % 8), .envc = (uint32_t)(random() % 8) };

	for (size_t i = 0; i < len; i++)
		bytes[i] = random() % 4 ? (uint8_t)('a' + random() % 26) : 0;
	if (random() % 8)
		bytes[len - 1] = 0;
	if (random() % 2) {
		/* as many strings as are there */
		size_t count = 0;

		for (size_t i = sizeof(frame) + sizeof(counts); i < len; i++)
			count += !bytes[i];
		counts.argc = (uint32_t)(count / 2 + 1);
		counts.envc = (uint32_t)(count - count / 2 - 2);
	}
	memcpy(bytes, &frame, sizeof(frame));
	memcpy(bytes + sizeof(frame), &counts, sizeof(counts));
	for (long flips = random() % 3; flips; flips--)
		bytes[random() % (long)len] ^= (uint8_t)(1 << random() % 8);
	return random() % 8 ? len : (size_t)random() % len;
}

static int run_one(size_t *sum)
{
	uint8_t bytes[MOST + 64];
	size_t len = make(bytes);
	struct wire wire = { 0 };
	int ends[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	wire.sock = ends[1];
	rc = len && write(ends[0], bytes, len) != (ssize_t)len ? -EIO : 0;
	close(ends[0]);
	while (!rc)
		rc = wire_read(&wire, take, sum);
	wire_fini(&wire);
	close(ends[1]);
	return rc == -EPIPE || rc == -EPROTO ? 0 : rc;
}

int main(int argc, char **argv)
{
	unsigned inputs = argc > 1 ? (unsigned)atoi(argv[1]) : INPUTS;
	size_t sum = 0;

	srandom(argc > 2 ? (unsigned)atoi(argv[2]) : 1);
	for (unsigned i = 0; i < inputs; i++) {
		int rc = run_one(&sum);

		if (rc) {
			fprintf(stderr, "input %u: %s\n", i, strerror(-rc));
			return 1;
		}
	}
	if (!sum)
		fprintf(stderr, "no input was a command\n");
	return !sum;
}
