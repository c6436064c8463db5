/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing of what sfd reads from others: frames of an agent, requests of a guest, reservations and
 * starts of a home. The first byte of an input says which, the rest is the text or the bytes.
 *
 * Alone it makes inputs from a seed (argv[1], else a fixed one) and runs SF_FUZZ_RUNS of them
 * (20000). With -DLINK_LIBFUZZER -fsanitize=fuzzer it is a libFuzzer target.
 */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfd/agent_port.h"
#include "host/sfd/family.h"
#include "host/sfd/request.h"
#include "host/sfd/reserve.h"
#include "host/sfd/start.h"
#include "host/sfd/window.h"

#define MAX_INPUT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* ---- an agent ---- */

static bool broken;

static void on_frame(void *arg, const struct agent_frame *f, const void *payload)
{
	const uint8_t *bytes = payload;
	unsigned sum = 0;

	(void)arg;
	must(!broken && f->type && f->type < AGENT_TYPES && f->length <= AGENT_MAX_FRAME);
	for (uint32_t i = 0; i < f->length; i++)
		sum += bytes[i]; /* all of it can be read */
	must(sum <= f->length * 255u);
}

static void on_broken(void *arg, const char *why)
{
	(void)arg;
	must(!broken && (!why || *why));
	broken = true;
}

static void fuzz_agent(const uint8_t *data, size_t size)
{
	static const struct agent_port_events events = { on_frame, on_broken };
	static struct event_base *base;
	struct agent_port *port;
	size_t piece = size ? 1 + data[0] : 1;
	int fds[2];

	if (!base) {
		base = event_base_new();
		signal(SIGPIPE, SIG_IGN); /* as sfd does */
	}
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	broken = false;
	port = agent_port_new(base, fds[0], &events, NULL);
	must(port);
	io_set_nonblock(fds[1], true);
	for (size_t at = 1; at < size && !broken; at += piece) {
		size_t n = size - at < piece ? size - at : piece;

		if (send(fds[1], data + at, n, MSG_NOSIGNAL) < 0)
			break;
		event_base_loop(base, EVLOOP_NONBLOCK);
		agent_port_send(port, AGENT_DATA, AGENT_STDIN, 1, data, n, NULL, 0);
	}
	close(fds[1]);
	event_base_loop(base, EVLOOP_NONBLOCK);
	agent_port_free(port);
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* ---- a guest ---- */

static void fuzz_request(const uint8_t *data, size_t size)
{
	char key[SF_XS_KEY_MAX + 8];
	struct ticket_wish wish;
	const char *wrong = NULL;
	struct request r;

	snprintf(key, sizeof(key), "%.*s", (int)size, (const char *)data);
	must(!request_key_valid(key) || !strchr(key, '/'));
	if (request_split(&r, (const char *)data, size))
		return;
	must(r.count >= 1 && r.count <= REQUEST_MAX_WORDS && !r.words[r.count]);
	if (request_ticket(r.words + 1, &wish, &wrong))
		must(wrong && *wrong);
	else
		must(wish.n >= 1 && wish.n <= SF_MAX_CLONES && wish.min <= wish.n);
}

/* ---- a home ---- */

static void fuzz_message(const uint8_t *data, size_t size)
{
	size_t json_len = strnlen((const char *)data, size), rest = size - json_len;
	json_t *msg = json_loadb((const char *)data, json_len, 0, NULL);
	struct reservation v;
	struct start s;

	if (!msg)
		return;
	if (!reserve_parse(&v, msg)) {
		must(!v.window.pages || window_fits(&v.window, v.ram_bytes));
		must(v.count && v.slots[v.count - 1] <= FAMILY_MAX_SLOT && v.cpus && v.ram_bytes);
		reserve_fini(&v);
	}
	if (!start_parse(&s, msg, data + json_len, rest)) {
		must(s.descriptor_bytes && s.count &&
		     s.descriptor_bytes + s.dead_bytes + s.xs_bytes == rest);
		for (unsigned i = 0; i < s.count; i++)
			must(s.clones[i].id && s.clones[i].id <= s.count);
		must(s.route.nodes >= 1 && s.route.nodes <= MC_MAX_MEMBERS);
		start_fini(&s);
	}
	json_decref(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const uint8_t *data,
				       size_t size) = { fuzz_agent, fuzz_request, fuzz_message };

	if (size)
		targets[data[0] % ARRAY_SIZE(targets)](data + 1, size - 1);
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

/* Frames that are right but for, now and then, something in them. */
static size_t make_agent(uint8_t *at)
{
	size_t size = 0;

	at[size++] = (uint8_t)next_random();
	for (unsigned frames = next_random() % 8; frames--;) {
		struct agent_frame f = { .length = next_random() % 64,
					 .type = (uint16_t)(next_random() % AGENT_TYPES),
					 .channel = (uint16_t)(next_random() % 3),
					 .stream = next_random() % 4 };

		memcpy(at + size, &f, sizeof(f));
		if (next_random() % 8 == 0)
			at[size + next_random() % sizeof(f)] ^= (uint8_t)(1u << next_random() % 8);
		size += sizeof(f);
		for (uint32_t i = 0; i < f.length; i++)
			at[size++] = (uint8_t)next_random();
	}
	return size;
}

static size_t make_text(uint8_t *at)
{
	static const char *const texts[] = {
		"ticket 8 min=2 per-host=1 vcpus=4",
		"clone 3",
		"create 1 2",
		"exit 0",
		"checkpoint",
		"{\"family\":{\"number\":1,\"ram_bytes\":268435456,\"cpus\":2,\"vni\":77,"
		"\"base\":\"10.64.0.1\",\"group\":\"239.193.2.3\",\"group_port\":50000},\"ticket\":3,\"slots\":[1,2,3],"
		"\"window_gfn\":4096,\"window_pages\":9}",
		"{\"number\":1,\"ticket\":2,\"file\":3,\"checkpoint\":0,\"pages\":4000,\"quiesce\":"
		"9,"
		"\"descriptor_bytes\":4,\"dead_bytes\":0,\"snapshot\":\"0102030405060708\",\"key\":"
		"\"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\","
		"\"request\":\"7-0-x\",\"cancel\":[\"8-0-y\"],\"streams\":[1],"
		"\"clones\":[{\"id\":1,\"slot\":5,\"serial\":11}],\"mode\":\"tree\",\"push\":0,"
		"\"members\":[{\"address\":\"10.0.0.2\",\"pages\":9},"
		"{\"address\":\"10.0.0.3\",\"pages\":9}]}",
	};
	const char *text = texts[next_random() % ARRAY_SIZE(texts)];
	size_t len = strlen(text);

	memcpy(at, text, len);
	memset(at + len, 0, 16);
	for (unsigned changes = next_random() % 4; changes--;)
		at[next_random() % len] = (uint8_t)(' ' + next_random() % 95);
	return len + next_random() % 16;
}

int main(int argc, char **argv)
{
	const char *wanted = getenv("SF_FUZZ_RUNS");
	unsigned long runs = wanted ? strtoul(wanted, NULL, 10) : 20000;

	state = argc > 1 ? strtoull(argv[1], NULL, 10) | 1 : 88172645463325252ull;
	for (unsigned long run = 0; run < runs; run++) {
		uint8_t input[MAX_INPUT];
		size_t size;

		input[0] = (uint8_t)(next_random() % 3);
		size = input[0] ? make_text(input + 1) : make_agent(input + 1);
		LLVMFuzzerTestOneInput(input, 1 + size);
	}
	printf("%lu inputs\n", runs);
	return 0;
}
#endif
