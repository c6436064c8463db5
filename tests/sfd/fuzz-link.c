/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing of the frame parser: arbitrary bytes into a link, in pieces of arbitrary size.
 *
 * Alone it makes inputs from a seed (argv[1], else a fixed one) and runs SF_FUZZ_RUNS of them
 * (2000). With -DLINK_LIBFUZZER -fsanitize=fuzzer it is a libFuzzer target.
 */
#include <arpa/inet.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/link.h"

#define PIECES_BYTES 8u /* the input's head: how the rest is cut */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool ended;

static void on_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)arg;
	if (len && bytes[len - 1] == 0xee)
		link_close(link), ended = true;
	else
		link_reply(link, msg, NULL, bytes, len);
}

static void on_down(void *arg, struct link *link, int error, const char *why)
{
	(void)arg;
	(void)link;
	if (error > 0 || !*why)
		abort();
	ended = true;
}

static void on_answer(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	(void)arg;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
	if (error > 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct link_handler handler = { .message = on_message, .down = on_down };
	static struct event_base *base;
	struct link *link;
	int fds[2];

	if (!base)
		base = event_base_new();
	if (size < PIECES_BYTES || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return 0;
	ended = false;
	link = link_from_fd(base, fds[0], &handler, NULL);
	if (!link)
		abort();
	io_set_nonblock(fds[1], true);
	link_call(link, json_object(), NULL, 0, on_answer, NULL);
	for (size_t at = PIECES_BYTES, i = 0; at < size && !ended; i++) {
		size_t piece = 1 + data[i % PIECES_BYTES];

		if (piece > size - at)
			piece = size - at;
		if (send(fds[1], data + at, piece, MSG_NOSIGNAL) < 0)
			break;
		at += piece;
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	close(fds[1]);
	while (!ended)
		event_base_loop(base, EVLOOP_ONCE);
	return 0;
}

#ifndef LINK_LIBFUZZER
static uint64_t state;

static uint32_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

/* A frame that is right but for, now and then, something in it. Return: its length. */
static size_t make_frame(uint8_t *at)
{
	static const char *const texts[] = { "{}",
					     "{\"op\":\"x\",\"tag\":3}",
					     "{\"re\":1}",
					     "[]",
					     "{\"re\":1,\"error\":\"ENOSPC\",\"why\":\"full\"}",
					     "{\"re\":1,\"error\":7}",
					     "{\"tag\":{}}",
					     "\"",
					     "" };
	const char *text = texts[next_random() % ARRAY_SIZE(texts)];
	uint32_t json_len = (uint32_t)strlen(text), len = next_random() % 300;
	uint32_t lengths[2] = { htonl(json_len), htonl(len) };

	memcpy(at, lengths, sizeof(lengths));
	memcpy(at + 8, text, json_len);
	for (uint32_t i = 0; i < len; i++)
		at[8 + json_len + i] = (uint8_t)next_random();
	if (next_random() % 4 == 0)
		at[next_random() % (8 + json_len)] ^= (uint8_t)(1u << next_random() % 8);
	return 8 + json_len + len;
}

int main(int argc, char **argv)
{
	const char *wanted = getenv("SF_FUZZ_RUNS");
	unsigned long runs = wanted ? strtoul(wanted, NULL, 10) : 2000;

	state = argc > 1 ? strtoull(argv[1], NULL, 10) | 1 : 88172645463325252ull;
	for (unsigned long run = 0; run < runs; run++) {
		uint8_t input[8192];
		size_t size = PIECES_BYTES, frames = 1 + next_random() % 8;

		for (unsigned i = 0; i < PIECES_BYTES; i++)
			input[i] = (uint8_t)next_random();
		while (frames--)
			size += make_frame(input + size);
		LLVMFuzzerTestOneInput(input, size - next_random() % 3);
	}
	printf("%lu inputs\n", runs);
	return 0;
}
#endif
