/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links: framing, calls and answers, ends of every kind, TLS with the right key and the wrong one.
 */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/link.h"

#define PATIENCE_NS 20000000000ull /* a test that waits longer has failed */

static struct event_base *base;

/* One end of a link, and all that happened to it. */
struct end {
	struct link *link;
	unsigned ups, downs, messages, answers, drains;
	int down_error, answer_error;
	char down_why[256], answer_why[256];
	json_t *last;	/* last message or answer */
	uint8_t *bytes; /* its tail */
	size_t len;
	bool echo; /* answer each message with itself */
	bool refuse;
	bool close_in_message, close_in_answer, close_in_down, close_in_up, hang_up_twice;
	size_t got_bytes;
};

static void keep(struct end *end, json_t *msg, const uint8_t *bytes, size_t len)
{
	json_decref(end->last);
	end->last = json_incref(msg);
	free(end->bytes);
	end->bytes = len ? malloc(len) : NULL;
	if (len)
		memcpy(end->bytes, bytes, len);
	end->len = len;
	end->got_bytes += len;
}

static void end_close(struct end *end)
{
	link_close(end->link);
	end->link = NULL;
}

static void on_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct end *end = arg;

	end->messages++;
	keep(end, msg, bytes, len);
	if (end->refuse)
		link_refuse(link, msg, -ENOSPC, "no room for %s", "you");
	else if (end->echo)
		link_reply(link, msg, json_pack("{s:O}", "echo", msg), bytes, len);
	if (end->close_in_message)
		end_close(end);
}

static void on_up(void *arg, struct link *link)
{
	struct end *end = arg;

	(void)link;
	end->ups++;
	if (end->close_in_up)
		end_close(end);
}

static void on_down(void *arg, struct link *link, int error, const char *why)
{
	struct end *end = arg;

	end->downs++;
	end->down_error = error;
	snprintf(end->down_why, sizeof(end->down_why), "%s", why);
	if (end->close_in_down)
		link_close(link);
	end->link = NULL;
}

static void on_drained(void *arg, struct link *link)
{
	struct end *end = arg;

	end->drains++;
	CU_ASSERT(link_backlog(link) < 256u << 10);
}

static void on_answer(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	struct end *end = arg;

	end->answers++;
	end->answer_error = error;
	snprintf(end->answer_why, sizeof(end->answer_why), "%s", why ? why : "");
	if (msg)
		keep(end, msg, bytes, len);
	if (end->close_in_answer && end->link)
		end_close(end);
}

static const struct link_handler handler = {
	.message = on_message, .up = on_up, .down = on_down, .drained = on_drained
};

static void end_fini(struct end *end)
{
	if (end->link)
		link_close(end->link);
	json_decref(end->last);
	free(end->bytes);
	memset(end, 0, sizeof(*end));
}

/* Runs the loop until `*counter` is at least `want`. Return: false if that took too long. */
static bool run_until(const unsigned *counter, unsigned want)
{
	uint64_t limit = io_now_ns() + PATIENCE_NS;
	struct timeval tick = { .tv_usec = 100000 };

	while (*counter < want) {
		if (io_now_ns() > limit)
			return false;
		event_base_loopexit(base, &tick);
		event_base_loop(base, EVLOOP_ONCE);
	}
	return true;
}

/* Gives the loop every turn it wants now. */
static void run_idle(void)
{
	for (unsigned i = 0; i < 20; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static void pair(struct end *a, struct end *b)
{
	int fds[2];

	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	a->link = link_from_fd(base, fds[0], &handler, a);
	b->link = link_from_fd(base, fds[1], &handler, b);
	CU_ASSERT_FATAL(a->link && b->link);
}

/* A link whose other end is the test itself. */
static int raw_pair(struct end *a)
{
	int fds[2];

	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	a->link = link_from_fd(base, fds[0], &handler, a);
	CU_ASSERT_FATAL(a->link != NULL);
	return fds[1];
}

static size_t make_frame(uint8_t *frame, const char *text, const void *bytes, size_t len)
{
	uint32_t lengths[2] = { htonl((uint32_t)strlen(text)), htonl((uint32_t)len) };

	memcpy(frame, lengths, sizeof(lengths));
	memcpy(frame + 8, text, strlen(text));
	if (len)
		memcpy(frame + 8 + strlen(text), bytes, len);
	return 8 + strlen(text) + len;
}

static void test_message_and_bytes(void)
{
	struct end a = { 0 }, b = { 0 };

	pair(&a, &b);
	CU_ASSERT_EQUAL(link_send(a.link, json_pack("{s:s}", "op", "x"), "\0\1\2", 3), 0);
	CU_ASSERT(run_until(&b.messages, 1));
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(b.last, "op")), "x");
	CU_ASSERT(b.len == 3 && !memcmp(b.bytes, "\0\1\2", 3));
	CU_ASSERT_EQUAL(a.ups, 1);
	CU_ASSERT_EQUAL(b.ups, 1);
	end_fini(&a);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(b.down_error, 0);
	end_fini(&b);
}

static void test_split_frames(void)
{
	uint8_t frame[256];
	struct end a = { 0 };
	int fd = raw_pair(&a);
	size_t len = make_frame(frame, "{\"n\":1}", "abc", 3);

	for (size_t i = 0; i < len; i++) {
		CU_ASSERT_EQUAL(a.messages, 0);
		CU_ASSERT_EQUAL(io_write_full(fd, frame + i, 1), 0);
		run_idle();
	}
	CU_ASSERT_EQUAL(a.messages, 1);
	CU_ASSERT_EQUAL(a.len, 3);
	close(fd);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.down_error, 0);
	end_fini(&a);
}

static void test_many_frames_at_once(void)
{
	uint8_t frames[4096];
	struct end a = { 0 };
	int fd = raw_pair(&a);
	size_t len = 0;

	for (unsigned i = 0; i < 100; i++)
		len += make_frame(frames + len, "{\"n\":1}", "xyz", 3);
	CU_ASSERT_EQUAL(io_write_full(fd, frames, len), 0);
	close(fd);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.messages, 100);
	end_fini(&a);
}

static void test_largest_message(void)
{
	struct end a = { 0 }, b = { 0 };
	_cleanup_free_ uint8_t *bytes = malloc(LINK_MAX_BINARY);
	_cleanup_free_ char *text = malloc(LINK_MAX_JSON);

	for (size_t i = 0; i < LINK_MAX_BINARY; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 13);
	memset(text, 'y', LINK_MAX_JSON - 8); /* {"a":""} is eight more */
	text[LINK_MAX_JSON - 8] = 0;
	pair(&a, &b);
	CU_ASSERT_EQUAL(link_send(a.link, json_pack("{s:s}", "a", text), bytes, LINK_MAX_BINARY),
			0);
	CU_ASSERT(run_until(&b.messages, 1));
	CU_ASSERT(b.len == LINK_MAX_BINARY && !memcmp(b.bytes, bytes, b.len));
	/* one byte more of either is refused here already */
	text[LINK_MAX_JSON - 8] = 'y';
	text[LINK_MAX_JSON - 7] = 0;
	CU_ASSERT_EQUAL(link_send(a.link, json_pack("{s:s}", "a", text), NULL, 0), -EMSGSIZE);
	CU_ASSERT_EQUAL(link_send(a.link, json_object(), bytes, LINK_MAX_BINARY + 1), -EMSGSIZE);
	CU_ASSERT_EQUAL(link_send(a.link, json_array(), NULL, 0), -EINVAL);
	end_fini(&a);
	end_fini(&b);
}

/* Sends `len` raw bytes to a link. Return: the error it went down with. */
static int ends_with(const void *bytes, size_t len, char why[256])
{
	struct end a = { 0 };
	int fd = raw_pair(&a), error;

	CU_ASSERT_EQUAL(io_write_full(fd, bytes, len), 0);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.messages, 0);
	error = a.down_error;
	snprintf(why, 256, "%s", a.down_why);
	close(fd);
	end_fini(&a);
	return error;
}

static void test_giant_frame_ends_the_link(void)
{
	uint32_t json[2] = { htonl(LINK_MAX_JSON + 1), 0 };
	uint32_t binary[2] = { htonl(2), htonl(LINK_MAX_BINARY + 1) };
	uint32_t all[2] = { UINT32_MAX, UINT32_MAX };
	char why[256];

	CU_ASSERT_EQUAL(ends_with(json, 8, why), -EPROTO);
	CU_ASSERT_EQUAL(ends_with(binary, 8, why), -EPROTO);
	CU_ASSERT_EQUAL(ends_with(all, 8, why), -EPROTO);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "4294967295"));
}

static void test_garbage_json_ends_the_link(void)
{
	static const char *const garbage[] = { "",
					       "nonsense",
					       "{",
					       "[]",
					       "[1,2]",
					       "{\"a\":1} x",
					       "{\"a\":\xff}",
					       "{\"a\":\"\xff\"}",
					       "{\"re\":\"x\"}",
					       "{\"re\":1}",
					       "{\"re\":-1}" };
	uint8_t frame[256];
	char why[256];

	for (unsigned i = 0; i < ARRAY_SIZE(garbage); i++) {
		size_t len = make_frame(frame, garbage[i], NULL, 0);

		CU_ASSERT_EQUAL(ends_with(frame, len, why), -EPROTO);
		CU_ASSERT(strlen(why) > 10);
	}
}

static void test_deep_json_ends_the_link(void)
{
	_cleanup_free_ uint8_t *frame = malloc(200100);
	_cleanup_free_ char *text = malloc(200001);
	char why[256];

	memset(text, '[', 200000);
	text[200000] = 0;
	CU_ASSERT_EQUAL(ends_with(frame, make_frame(frame, text, NULL, 0), why), -EPROTO);
}

static void test_end_within_a_message(void)
{
	uint8_t frame[256];
	struct end a = { 0 };
	int fd = raw_pair(&a);
	size_t len = make_frame(frame, "{\"n\":1}", NULL, 0);

	CU_ASSERT_EQUAL(io_write_full(fd, frame, len - 1), 0);
	close(fd);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.down_error, -ECONNRESET);
	CU_ASSERT_EQUAL(a.messages, 0);
	end_fini(&a);
}

static void test_answers_find_their_calls(void)
{
	struct end a = { 0 }, b = { .echo = true }, other = { 0 };

	pair(&a, &b);
	for (int i = 0; i < 50; i++)
		CU_ASSERT_EQUAL(link_call(a.link, json_pack("{s:i}", "n", i), &i, sizeof(i),
					  on_answer, i == 7 ? &other : &a),
				0);
	CU_ASSERT(run_until(&a.answers, 49));
	CU_ASSERT_EQUAL(a.answer_error, 0);
	CU_ASSERT_EQUAL(other.answers, 1);
	CU_ASSERT_EQUAL(
		json_integer_value(json_object_get(json_object_get(other.last, "echo"), "n")), 7);
	CU_ASSERT(other.len == sizeof(int) && *(int *)other.bytes == 7);
	b.refuse = true;
	link_call(a.link, json_object(), NULL, 0, on_answer, &a);
	CU_ASSERT(run_until(&a.answers, 50));
	CU_ASSERT_EQUAL(a.answer_error, -ENOSPC);
	CU_ASSERT_STRING_EQUAL(a.answer_why, "no room for you");
	CU_ASSERT_EQUAL(a.messages, 0);
	end_fini(&a);
	end_fini(&b);
	end_fini(&other);
}

static void test_no_tag_no_answer(void)
{
	struct end a = { 0 }, b = { .echo = true };

	pair(&a, &b);
	link_send(a.link, json_object(), NULL, 0);
	CU_ASSERT(run_until(&b.messages, 1));
	b.refuse = true;
	link_send(a.link, json_object(), NULL, 0);
	CU_ASSERT(run_until(&b.messages, 2));
	run_idle();
	CU_ASSERT_EQUAL(a.messages, 0);
	CU_ASSERT_EQUAL(a.downs, 0);
	end_fini(&a);
	end_fini(&b);
}

static void test_lost_link_answers_open_calls(void)
{
	struct end a = { 0 };
	int fd = raw_pair(&a);

	for (int i = 0; i < 3; i++)
		link_call(a.link, json_object(), NULL, 0, on_answer, &a);
	run_idle();
	close(fd);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.answers, 3);
	CU_ASSERT_EQUAL(a.answer_error, -ECONNRESET);
	end_fini(&a);
}

static void test_send_to_a_lost_link(void)
{
	struct end a = { 0 };
	int fd = raw_pair(&a);
	uint8_t frame[64];

	run_idle();
	CU_ASSERT_EQUAL(io_write_full(fd, frame, make_frame(frame, "{\"last\":1}", NULL, 0)), 0);
	close(fd);
	/* no SIGPIPE, no callback from in here, and the last words are still heard */
	link_send(a.link, json_object(), NULL, 0);
	CU_ASSERT_EQUAL(link_send(a.link, json_object(), NULL, 0), -ECONNRESET);
	CU_ASSERT_EQUAL(link_call(a.link, json_object(), NULL, 0, on_answer, &a), -ECONNRESET);
	CU_ASSERT_EQUAL(a.downs, 0);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.messages, 1);
	CU_ASSERT_EQUAL(a.answers, 0);
	end_fini(&a);
}

static void test_close_in_callbacks(void)
{
	struct end a = { .close_in_message = true }, b = { 0 };

	pair(&a, &b);
	link_send(b.link, json_object(), NULL, 0);
	link_send(b.link, json_object(), NULL, 0);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(a.messages, 1);
	CU_ASSERT_EQUAL(a.downs, 0);
	end_fini(&a);
	end_fini(&b);

	a.close_in_answer = true;
	b.echo = true;
	pair(&a, &b);
	link_call(a.link, json_object(), NULL, 0, on_answer, &a);
	link_call(a.link, json_object(), NULL, 0, on_answer, &a);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(a.answers, 1);
	end_fini(&a);
	end_fini(&b);

	a.close_in_answer = true; /* here the answer is the news of the end */
	pair(&a, &b);
	run_idle();
	link_call(a.link, json_object(), NULL, 0, on_answer, &a);
	link_call(a.link, json_object(), NULL, 0, on_answer, &a);
	b.close_in_message = true;
	CU_ASSERT(run_until(&a.answers, 1));
	run_idle();
	CU_ASSERT_EQUAL(a.answers, 1);
	CU_ASSERT_EQUAL(a.downs, 0);
	end_fini(&a);
	end_fini(&b);

	a.close_in_up = true;
	b.close_in_down = true;
	pair(&a, &b);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(a.ups, 1);
	end_fini(&a);
	end_fini(&b);
}

static void test_close_sends_what_waits(void)
{
	struct end a = { 0 }, b = { 0 };
	_cleanup_free_ uint8_t *bytes = calloc(1, LINK_MAX_BINARY);

	pair(&a, &b);
	link_pause(b.link, true);
	run_idle();
	link_send(a.link, json_object(), bytes, LINK_MAX_BINARY);
	CU_ASSERT(link_backlog(a.link) > 1u << 20);
	end_close(&a);
	link_pause(b.link, false);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(b.messages, 1);
	CU_ASSERT_EQUAL(b.len, LINK_MAX_BINARY);
	CU_ASSERT_EQUAL(b.down_error, 0);
	end_fini(&b);
}

static void test_backlog_and_drained(void)
{
	struct end a = { 0 }, b = { 0 };
	uint8_t bytes[65536] = { 0 };
	size_t sent = 0;

	pair(&a, &b);
	link_pause(b.link, true);
	run_idle();
	while (link_backlog(a.link) <= 1u << 20) {
		link_send(a.link, json_object(), bytes, sizeof(bytes));
		sent += sizeof(bytes);
	}
	run_idle();
	CU_ASSERT_EQUAL(a.drains, 0);
	CU_ASSERT_EQUAL(b.messages, 0);
	link_pause(b.link, false);
	CU_ASSERT(run_until(&b.messages, (unsigned)(sent / sizeof(bytes))));
	CU_ASSERT_EQUAL(a.drains, 1);
	CU_ASSERT_EQUAL(b.got_bytes, sent);
	CU_ASSERT_EQUAL(link_backlog(a.link), 0);
	end_fini(&a);
	end_fini(&b);
}

static void test_pause_keeps_what_was_read(void)
{
	uint8_t frames[256];
	struct end a = { 0 };
	int fd = raw_pair(&a);
	size_t len = make_frame(frames, "{\"n\":1}", NULL, 0);

	len += make_frame(frames + len, "{\"n\":2}", NULL, 0);
	link_pause(a.link, true);
	CU_ASSERT_EQUAL(io_write_full(fd, frames, len), 0);
	run_idle();
	CU_ASSERT_EQUAL(a.messages, 0);
	link_pause(a.link, false);
	CU_ASSERT(run_until(&a.messages, 2));
	close(fd);
	CU_ASSERT(run_until(&a.downs, 1));
	end_fini(&a);
}

static void test_errno_names(void)
{
	static const int numbers[] = { EPERM,	   ENOENT,    EIO,	    ENOMEM,    EACCES,
				       EBUSY,	   EEXIST,    ENODEV,	    EINVAL,    ENOSPC,
				       EPIPE,	   ENOTSUP,   ENOSYS,	    ETIMEDOUT, ECONNREFUSED,
				       ECONNRESET, EHOSTDOWN, EHOSTUNREACH, EDQUOT,    ECANCELED,
				       EPROTO,	   ECHILD,    EAGAIN,	    ESRCH,     EMSGSIZE };

	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		CU_ASSERT_EQUAL(link_errno_number(link_errno_name(numbers[i])), numbers[i]);
		CU_ASSERT_EQUAL(link_errno_number(link_errno_name(-numbers[i])), numbers[i]);
	}
	CU_ASSERT_STRING_EQUAL(link_errno_name(ENOSPC), "ENOSPC");
	CU_ASSERT_STRING_EQUAL(link_errno_name(99999), "EIO");
	CU_ASSERT_EQUAL(link_errno_number("EWHAT"), EIO);
	CU_ASSERT_EQUAL(link_errno_number(NULL), EIO);
}

/* TLS over loopback. */

static const uint8_t right_key[LINK_KEY_BYTES] = "0123456789abcdef0123456789abcde";
static const uint8_t wrong_key[LINK_KEY_BYTES] = "0123456789abcdef0123456789abcdX";

static int listener(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CU_ASSERT_FATAL(fd >= 0 && !bind(fd, (struct sockaddr *)at, len) && !listen(fd, 5) &&
			!getsockname(fd, (struct sockaddr *)at, &len));
	return fd;
}

/* A client and a server with a key each, over a loopback connection. */
static void tls_pair(struct end *client, const uint8_t *client_key, struct end *server,
		     const uint8_t *server_key)
{
	struct sockaddr_in at;
	_cleanup_fd_ int fd = listener(&at);
	int accepted;

	client->link = link_connect_tls(base, (struct sockaddr *)&at, sizeof(at), NULL, 0,
					client_key, &handler, client);
	accepted = accept(fd, NULL, NULL);
	CU_ASSERT_FATAL(client->link && accepted >= 0);
	server->link = link_accept_tls(base, accepted, server_key, &handler, server);
	CU_ASSERT_FATAL(server->link != NULL);
}

static void test_tls_messages(void)
{
	struct end a = { 0 }, b = { .echo = true };
	_cleanup_free_ uint8_t *bytes = malloc(LINK_MAX_BINARY);

	for (size_t i = 0; i < LINK_MAX_BINARY; i++)
		bytes[i] = (uint8_t)(i * 2654435761u >> 11);
	tls_pair(&a, right_key, &b, right_key);
	link_call(a.link, json_object(), "early", 5, on_answer, &a); /* waits for the handshake */
	CU_ASSERT(run_until(&a.answers, 1));
	CU_ASSERT(a.ups == 1 && b.ups == 1);
	CU_ASSERT(a.len == 5 && !memcmp(a.bytes, "early", 5));
	link_call(a.link, json_object(), bytes, LINK_MAX_BINARY, on_answer, &a);
	CU_ASSERT(run_until(&a.answers, 2));
	CU_ASSERT(a.len == LINK_MAX_BINARY && !memcmp(a.bytes, bytes, a.len));
	end_close(&a);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(b.down_error, 0);
	run_idle();
	end_fini(&a);
	end_fini(&b);
}

static void test_tls_wrong_key(void)
{
	struct end a = { 0 }, b = { 0 };

	tls_pair(&a, wrong_key, &b, right_key);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(a.down_error, -EACCES);
	CU_ASSERT_EQUAL(b.down_error, -EACCES);
	CU_ASSERT_PTR_NOT_NULL(strstr(a.down_why, "cluster key"));
	CU_ASSERT_PTR_NOT_NULL(strstr(b.down_why, "cluster key"));
	CU_ASSERT(a.ups == 0 && b.ups == 0);
	end_fini(&a);
	end_fini(&b);
}

/* Writes to a TLS server what is no TLS; it must end without a message. */
static void test_tls_garbage(void)
{
	struct end b = { 0 };
	struct sockaddr_in at;
	_cleanup_fd_ int fd = listener(&at);
	_cleanup_fd_ int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint8_t frame[64];

	CU_ASSERT_EQUAL_FATAL(connect(client, (struct sockaddr *)&at, sizeof(at)), 0);
	b.link = link_accept_tls(base, accept(fd, NULL, NULL), right_key, &handler, &b);
	CU_ASSERT_EQUAL(io_write_full(client, frame, make_frame(frame, "{}", NULL, 0)), 0);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(b.down_error, -EPROTO);
	CU_ASSERT(b.messages == 0 && b.ups == 0);
	end_fini(&b);
}

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"snowflock", -1,
				   -1, 0);
	X509_set_issuer_name(cert, name);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	return cert;
}

/* A server that has a certificate of its own and not the key: what an impostor would try. */
static void impostor(int fd)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = make_certificate(key);
	SSL *ssl;

	SSL_CTX_use_certificate(ctx, cert);
	SSL_CTX_use_PrivateKey(ctx, key);
	ssl = SSL_new(ctx);
	SSL_set_fd(ssl, accept(fd, NULL, NULL));
	if (SSL_accept(ssl) == 1) {
		char nothing;

		(void)SSL_read(ssl, &nothing, 1);
	}
	_exit(0);
}

static void test_tls_impostor_with_certificate(void)
{
	struct end a = { 0 };
	struct sockaddr_in at;
	_cleanup_fd_ int fd = listener(&at);
	pid_t pid = fork();

	if (!pid) {
		signal(SIGPIPE, SIG_IGN);
		alarm(20);
		impostor(fd);
	}
	a.link = link_connect_tls(base, (struct sockaddr *)&at, sizeof(at), NULL, 0, right_key,
				  &handler, &a);
	link_send(a.link, json_pack("{s:s}", "secret", "x"), NULL, 0);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.ups, 0);
	CU_ASSERT_EQUAL(a.down_error, -EACCES);
	end_fini(&a);
}

static void test_tls_nobody_listens(void)
{
	struct end a = { 0 };
	struct sockaddr_in at,
		local = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1) };
	int fd = listener(&at);

	close(fd);
	a.link = link_connect_tls(base, (struct sockaddr *)&at, sizeof(at), NULL, 0, right_key,
				  &handler, &a);
	CU_ASSERT_EQUAL(a.downs, 0);
	link_call(a.link, json_object(), NULL, 0, on_answer, &a);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.down_error, -ECONNREFUSED);
	CU_ASSERT_EQUAL(a.answer_error, -ECONNRESET);
	end_fini(&a);

	local.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1 is nobody's */
	a.link =
		link_connect_tls(base, (struct sockaddr *)&at, sizeof(at),
				 (struct sockaddr *)&local, sizeof(local), right_key, &handler, &a);
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT(a.down_error == -EADDRNOTAVAIL || a.down_error == -EINVAL);
	end_fini(&a);
}

static void test_tls_peer_vanishes(void)
{
	struct end a = { 0 };
	struct sockaddr_in at;
	_cleanup_fd_ int fd = listener(&at);
	int accepted;

	a.link = link_connect_tls(base, (struct sockaddr *)&at, sizeof(at), NULL, 0, right_key,
				  &handler, &a);
	accepted = accept(fd, NULL, NULL);
	run_idle();
	close(accepted); /* unread input: a reset */
	CU_ASSERT(run_until(&a.downs, 1));
	CU_ASSERT_EQUAL(a.down_error, -ECONNRESET);
	end_fini(&a);
}

static void test_tls_close_sends_what_waits(void)
{
	struct end a = { 0 }, b = { 0 };
	_cleanup_free_ uint8_t *bytes = calloc(1, LINK_MAX_BINARY);

	tls_pair(&a, right_key, &b, right_key);
	CU_ASSERT(run_until(&a.ups, 1));
	CU_ASSERT(run_until(&b.ups, 1));
	/* b sends too, all of it unread at a: that must not cost b the message */
	link_send(b.link, json_object(), bytes, 1u << 20);
	link_pause(a.link, true);
	link_send(a.link, json_object(), bytes, LINK_MAX_BINARY);
	end_close(&a);
	CU_ASSERT(run_until(&b.downs, 1));
	CU_ASSERT_EQUAL(b.messages, 1);
	CU_ASSERT_EQUAL(b.len, LINK_MAX_BINARY);
	run_idle();
	end_fini(&b);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "a message and its bytes arrive", test_message_and_bytes },
	{ "a frame may come byte by byte", test_split_frames },
	{ "frames before the end are all heard", test_many_frames_at_once },
	{ "the largest message goes through, a larger one is refused", test_largest_message },
	{ "a giant frame ends the link", test_giant_frame_ends_the_link },
	{ "what is no JSON object ends the link", test_garbage_json_ends_the_link },
	{ "JSON nested too deep ends the link", test_deep_json_ends_the_link },
	{ "an end within a message is an error", test_end_within_a_message },
	{ "answers find their calls", test_answers_find_their_calls },
	{ "a message without tag gets no answer", test_no_tag_no_answer },
	{ "a lost link answers open calls", test_lost_link_answers_open_calls },
	{ "sending to a lost link is safe", test_send_to_a_lost_link },
	{ "a link may be closed in every callback", test_close_in_callbacks },
	{ "close sends what waits", test_close_sends_what_waits },
	{ "backlog is told, and its end", test_backlog_and_drained },
	{ "a pause loses nothing", test_pause_keeps_what_was_read },
	{ "errno names", test_errno_names },
	{ "TLS: messages of every size", test_tls_messages },
	{ "TLS: the wrong key is told to both", test_tls_wrong_key },
	{ "TLS: what is not TLS is refused", test_tls_garbage },
	{ "TLS: a certificate instead of the key is refused", test_tls_impostor_with_certificate },
	{ "TLS: nobody listens", test_tls_nobody_listens },
	{ "TLS: the peer vanishes", test_tls_peer_vanishes },
	{ "TLS: close sends what waits", test_tls_close_sends_what_waits },
};

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	base = event_base_new();
	if (!base || CU_initialize_registry() != CUE_SUCCESS)
		return 99;
	suite = CU_add_suite("link", NULL, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
		CU_add_test(suite, tests[i].name, tests[i].run);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	event_base_free(base);
	return failed ? 1 : 0;
}
