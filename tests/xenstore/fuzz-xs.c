/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing of the XenStore server: what a guest may send, and what another host may send as a state.
 *
 * The first byte of an input says what the rest is: even: a state to restore, which is then used;
 * odd: a guest's stream. In a stream, 0xff where a request's type should begin saves the server
 * and goes on with the restored one.
 *
 * Alone it makes inputs from a seed (argv[1], else a fixed one) and runs SF_FUZZ_RUNS (4000) of
 * them. With -DXS_LIBFUZZER -fsanitize=fuzzer it is a libFuzzer target.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "host/sfd/xs_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is sent must be whole frames within the limits, whatever came in. */
static void check_sent(void *arg, const void *bytes, size_t len)
{
	struct xsd_sockmsg head;

	(void)arg;
	if (len < sizeof(head))
		abort();
	memcpy(&head, bytes, sizeof(head));
	if (head.len > XENSTORE_PAYLOAD_MAX || head.len != len - sizeof(head))
		abort();
}

/* A host that answers in the hook, as sfd does. */
static void check_changed(void *arg, const char *path, const char *value, size_t len)
{
	struct xs_server **xs = arg;

	if (*path != '/' || (value && value[len]))
		abort();
	if (!*xs || !value || len % 3)
		return;
	xs_host_remove(*xs, path);
	xs_host_printf(*xs, "reply/x", "%zu", len);
}

static const struct xs_hooks hooks = { .send = check_sent, .changed = check_changed };

static void list_one(void *arg, const char *name)
{
	(void)arg;
	if (!*name || strchr(name, '/'))
		abort();
}

/* Replaces the server by one restored from its state. That of a sound server is always sound. */
static void swap(struct xs_server **xs, unsigned domid)
{
	_cleanup_free_ uint8_t *state = NULL;
	size_t len;

	state = xs_save(*xs, &len);
	if (!state)
		abort();
	xs_destroy(*xs);
	*xs = xs_restore(domid, NULL, &hooks, xs, state, len);
	if (!*xs)
		abort();
	xs_hold(*xs, false);
}

/* Feeds a guest's stream. */
static void feed(struct xs_server **xs, const uint8_t *data, size_t size)
{
	unsigned domid = 5;

	while (size) {
		struct xsd_sockmsg head;
		size_t len = size;

		if (*data == 0xff) {
			swap(xs, ++domid);
			len = 1;
		} else {
			if (size >= sizeof(head)) {
				memcpy(&head, data, sizeof(head));
				if (head.len < size - sizeof(head))
					len = sizeof(head) + head.len;
			}
			if (xs_input(*xs, data, len / 2) ||
			    xs_input(*xs, data + len / 2, len - len / 2))
				return;
		}
		data += len;
		size -= len;
	}
}

/* Uses what was restored: its events, the host's access, transactions that may be open. */
static void use(struct xs_server **xs)
{
	struct xsd_sockmsg head = { .type = XS_TRANSACTION_END, .len = 2 };
	struct xsd_sockmsg rm = { .type = XS_RM, .len = 2 };

	xs_hold(*xs, false);
	xs_host_write(*xs, "a/b", "x", true);
	xs_host_list(*xs, "/", list_one, NULL);
	for (head.tx_id = 1; head.tx_id < 4 && xs_at_boundary(*xs); head.tx_id++) {
		xs_input(*xs, &head, sizeof(head));
		xs_input(*xs, "T", 2);
	}
	if (xs_at_boundary(*xs)) {
		xs_input(*xs, &rm, sizeof(rm));
		xs_input(*xs, "a", 2);
	}
	swap(xs, 99);
	xs_host_remove(*xs, "a");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct xs_server *xs = NULL;

	if (!size)
		return 0;
	if (*data & 1) {
		xs = xs_create(5, NULL, &hooks, &xs);
		xs_host_write(xs, "reply", "", true);
		feed(&xs, data + 1, size - 1);
	} else {
		xs = xs_restore(7, NULL, &hooks, &xs, data + 1, size - 1);
		if (xs)
			use(&xs);
	}
	xs_destroy(xs);
	return 0;
}

#ifdef XS_LIBFUZZER

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_init("fuzz-xs", LOG_LVL_ERR);
	return 0;
}

#else

static uint64_t seed = 0x5eed;

static uint32_t dice(uint32_t sides)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16) % sides;
}

struct input {
	uint8_t bytes[1 << 16];
	size_t len;
};

static void append(struct input *in, const void *bytes, size_t len)
{
	if (len > sizeof(in->bytes) - in->len)
		return;
	memcpy(in->bytes + in->len, bytes, len);
	in->len += len;
}

/* Appends one request that makes sense, more or less. */
static void append_request(struct input *in)
{
	static const char *const paths[] = { "a", "b", "a/b", "a/b/c", "a/d", "reply", "/", "reply/x",
		"/local/domain/5/a", "/local/domain/5", "@releaseDomain", "a//b", "d/1", "d/2", "d/10" };
	static const char *const seconds[] = { "x", "1", "n5", "b5", "token", "0", "" };
	struct xsd_sockmsg head = { .type = dice(XS_TYPE_COUNT), .tx_id = dice(4) };
	char payload[256];
	const char *path = paths[dice(ARRAY_SIZE(paths))];
	const char *second = seconds[dice(ARRAY_SIZE(seconds))];

	if (head.tx_id == 3)
		head.tx_id = 0;
	if (head.type == XS_RESET_WATCHES && dice(8))
		head.type = XS_WRITE;
	if (head.type == XS_TRANSACTION_START)
		head.tx_id = 0;
	if (head.type == XS_TRANSACTION_END)
		path = dice(4) ? "T" : "F";
	head.len = (uint32_t)sprintf(payload, "%s%c%s", path, 0, second) + 1;
	if (head.type == XS_WRITE)
		head.len -= dice(2);
	else if (head.type != XS_WATCH && head.type != XS_UNWATCH && head.type != XS_SET_PERMS &&
		 head.type != XS_DIRECTORY_PART)
		head.len = (uint32_t)strlen(path) + 1;
	append(in, &head, sizeof(head));
	append(in, payload, head.len);
}

static void make_stream(struct input *in)
{
	static const uint8_t cut = 0xff;
	uint32_t requests = 1 + dice(60);

	in->bytes[0] = 1;
	in->len = 1;
	while (requests--) {
		append_request(in);
		if (!dice(20))
			append(in, &cut, 1);
	}
}

/* Makes the state of a server that a stream has filled. */
static void make_state(struct input *in)
{
	struct xs_server *xs = NULL;
	_cleanup_free_ uint8_t *state = NULL;
	size_t len;

	make_stream(in);
	xs = xs_create(5, NULL, &hooks, &xs);
	feed(&xs, in->bytes + 1, in->len - 1);
	xs_hold(xs, true);
	xs_host_write(xs, "a/b", "y", true);
	state = xs_save(xs, &len);
	xs_destroy(xs);
	in->bytes[0] = 0;
	in->len = 1;
	append(in, state, len);
}

static void mutate(struct input *in)
{
	uint32_t times = dice(4);

	while (times--) {
		uint32_t at = 1 + dice((uint32_t)in->len - 1);

		switch (dice(4)) {
		case 0:
			in->bytes[at] ^= (uint8_t)(1u << dice(8));
			break;
		case 1:
			in->bytes[at] = (uint8_t)dice(256);
			break;
		case 2:
			in->bytes[at] += dice(2) ? 1 : 255;
			break;
		case 3:
			if (!dice(4))
				in->len = at + 1;
			break;
		}
	}
}

int main(int argc, char **argv)
{
	static struct input in;
	const char *runs_text = getenv("SF_FUZZ_RUNS");
	unsigned long runs = runs_text ? strtoul(runs_text, NULL, 10) : 4000;

	log_init("fuzz-xs", LOG_LVL_ERR);
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0) | 1;
	for (unsigned long i = 0; i < runs; i++) {
		if (i % 2)
			make_stream(&in);
		else
			make_state(&in);
		mutate(&in);
		LLVMFuzzerTestOneInput(in.bytes, in.len);
	}
	return 0;
}

#endif
