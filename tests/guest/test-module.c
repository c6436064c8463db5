/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel module and the agent: with none, and with a double of it that holds the guest. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "harness.h"
#include "module-double.h"

#define GFN 4096u
#define PAGES 9u

static bool busy, own_network;
static int host;	/* where the double asks what comes of a hold */

/* In the agent's process, before it is the agent. */
static void run_with_double(const struct guest *g, int port, int xs)
{
	static const char *const network[] = { "--nic=seg0", NULL };
	static const char *const no_network[] = { "--no-network", NULL };
	const char *library = getenv("SF_MODULE_DOUBLE");
	int console = open(guest_path(g, "console"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	dup2(console, STDERR_FILENO);
	setenv("SF_DOUBLE_HOLD", guest_path(g, "hold"), 1);
	setenv("SF_DOUBLE_RESEEDED", guest_path(g, "reseeded"), 1);
	if (busy)
		setenv("SF_DOUBLE_BUSY", "1", 1);
	setenv("SF_LOG", "info", 1);
	if (library)
		setenv("LD_PRELOAD", library, 1);
	guest_run_agent(g, port, xs, own_network ? network : no_network);
}

/* The device appears, and says this about itself. */
static void appear(const struct guest *g, const struct sfk_where *where)
{
	char new[128];
	int fd;

	guest_file(g, "dev/other", 0600, "");
	snprintf(new, sizeof(new), "%s/new", g->dir);
	fd = open(new, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CU_ASSERT_EQUAL_FATAL(write(fd, where, sizeof(*where)), sizeof(*where));
	close(fd);
	CU_ASSERT_EQUAL_FATAL(rename(new, guest_path(g, "dev/snowflock")), 0);
}

/* The module is loaded, with its window at page `gfn`. */
static void load(const struct guest *g, uint64_t gfn)
{
	const struct sfk_where where = { .version = SFK_VERSION, .gfn = gfn, .pages = PAGES };

	appear(g, &where);
}

static void run_with_module(const struct guest *g, int port, int xs)
{
	load(g, GFN);
	if (own_network && !guest_own_network())
		_exit(1);
	run_with_double(g, port, xs);
}

/* The host's end takes little at a time. */
static void run_with_narrow_port(const struct guest *g, int port, int xs)
{
	int bytes = 1;

	setsockopt(port, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	run_with_module(g, port, xs);
}

static void run_without(const struct guest *g, int port, int xs)
{
	guest_file(g, "dev/other", 0600, "");
	run_with_double(g, port, xs);
}

static void listen_for_hold(const struct guest *g)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", guest_path(g, "hold"));
	host = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	CU_ASSERT_EQUAL_FATAL(bind(host, (struct sockaddr *)&at, sizeof(at)), 0);
	CU_ASSERT_EQUAL_FATAL(listen(host, 1), 0);
}

/* Boots a guest that has the module. */
static struct guest *boot_by(void (*run)(const struct guest *guest, int port, int xs))
{
	struct guest *g = guest_start_by(run);
	const struct agent_hello *hello;

	listen_for_hold(g);
	hello = guest_expect(g, AGENT_HELLO, 0);
	CU_ASSERT_EQUAL(hello->version, 3);
	CU_ASSERT_EQUAL(hello->window.gfn, GFN);
	CU_ASSERT_EQUAL(hello->window.pages, PAGES);
	guest_resume(g, 0, 0, 0);
	return g;
}

static struct guest *boot(void)
{
	return boot_by(run_with_module);
}

static void end(struct guest *g)
{
	close(host);
	guest_stop(g);
}

static void quiesce(struct guest *g, uint64_t op, uint32_t flags)
{
	struct agent_quiesce quiesce = { .op = op, .flags = flags };

	guest_send(g, AGENT_QUIESCE, 0, 0, &quiesce, sizeof(quiesce));
}

/* The guest holds for `op`. Return: the connection at which the double waits. */
static int take_hold(uint64_t op)
{
	struct sfk_prepare prepared;
	int sock;

	CU_ASSERT_TRUE_FATAL(client_hears(host, GUEST_WAIT_MS));
	sock = accept4(host, NULL, NULL, SOCK_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(recv(sock, &prepared, sizeof(prepared), 0), sizeof(prepared));
	CU_ASSERT_EQUAL(prepared.op, op);
	CU_ASSERT_STRING_EQUAL(prepared.nic, own_network ? "seg0" : "");
	return sock;
}

/* Gets the guest to hold for `op`. Return: the connection at which the double waits. */
static int expect_hold(struct guest *g, uint64_t op)
{
	const struct agent_quiesce *quiesced;

	quiesce(g, op, AGENT_Q_HOLD);
	quiesced = guest_expect(g, AGENT_QUIESCED, 0);
	CU_ASSERT_EQUAL(quiesced->op, op);
	CU_ASSERT_EQUAL(quiesced->flags, AGENT_Q_HOLD);
	CU_ASSERT_EQUAL(quiesced->window.gfn, GFN);
	CU_ASSERT_EQUAL(quiesced->window.pages, PAGES);
	return take_hold(op);
}

/* The letter comes: this VM is `id` from now on. */
static void let_go(int sock, uint64_t op, uint32_t id, const char *request)
{
	struct agent_resume resume = { .op = op, .id = id, .count = 3 };
	struct double_answer answer = { .held = { .id = id, .clone = id != 0 } };

	strcpy(resume.request, request);
	memcpy(answer.held.note, &resume, sizeof(resume));
	send(sock, &answer, sizeof(answer), 0);
	close(sock);
}

static void fail_hold(int sock, int error)
{
	const struct double_answer answer = { .error = error };

	send(sock, &answer, sizeof(answer), 0);
	close(sock);
}

static void expect_resumed(struct guest *g)
{
	const struct agent_status *status = guest_expect(g, AGENT_RESUMED, 0);

	CU_ASSERT_EQUAL(status->value, 0);
}

/* Says that we are about to ask for an instant. Return: the flags of the answer. */
static uint32_t await(struct guest *g, const char *key, int *sock)
{
	struct agent_sock_await wish = { .head = { .op = AGENT_SOCK_AWAIT } };
	struct agent_sock_reply noted = { .error = -1 };

	*sock = sock_connect(g);
	strcpy(wish.request, key);
	send(*sock, &wish, sizeof(wish), 0);
	CU_ASSERT_EQUAL_FATAL(recv(*sock, &noted, sizeof(noted), 0), sizeof(noted));
	CU_ASSERT_EQUAL(noted.error, 0);
	return noted.flags;
}

static void without_module_it_says_so_and_does_not_hold(void)
{
	struct guest *g = guest_start_by(run_without);
	const struct agent_hello *hello = guest_expect(g, AGENT_HELLO, 0);
	const struct agent_quiesce *quiesced;
	int sock;

	CU_ASSERT_EQUAL(hello->version, 3);
	CU_ASSERT_EQUAL(hello->window.gfn, 0);
	CU_ASSERT_EQUAL(hello->window.pages, 0);
	guest_resume(g, 0, 0, 0);
	CU_ASSERT_TRUE(guest_file_has(g, "console", "no kernel module: in a clone"));
	CU_ASSERT_EQUAL(await(g, "1-2-3", &sock), AGENT_SOCK_F_NO_MODULE);
	quiesce(g, 1, AGENT_Q_HOLD);
	quiesced = guest_expect(g, AGENT_QUIESCED, 0);
	CU_ASSERT_EQUAL(quiesced->flags, 0);
	CU_ASSERT_EQUAL(quiesced->window.pages, 0);
	guest_resume(g, 1, 0, 0);
	close(sock);
	guest_stop(g);
}

/* Where no module gives the kernel new keys, the agent has to ask for them; else it need not. */
static void random_numbers_are_told_apart_without_module(void)
{
	struct guest *g = guest_start_by(run_without);

	guest_expect(g, AGENT_HELLO, 0);
	guest_resume(g, 0, 0, 0);
	quiesce(g, 1, 0);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 1, 0, 0);
	CU_ASSERT_NOT_EQUAL(access(guest_path(g, "reseeded"), F_OK), 0);
	quiesce(g, 2, 0);
	guest_expect(g, AGENT_QUIESCED, 0);
	guest_resume(g, 2, 1, 0);
	CU_ASSERT_EQUAL(access(guest_path(g, "reseeded"), F_OK), 0);
	guest_stop(g);
	g = boot();
	let_go(expect_hold(g, 7), 7, 2, "");
	expect_resumed(g);
	CU_ASSERT_NOT_EQUAL(access(guest_path(g, "reseeded"), F_OK), 0);
	end(g);
}

static void it_comes_and_goes(void)
{
	struct guest *g = guest_start_by(run_without);
	const struct agent_window *window;
	int sock;

	guest_expect(g, AGENT_HELLO, 0);
	guest_resume(g, 0, 0, 0);
	load(g, 77);
	window = guest_expect(g, AGENT_MODULE, 0);
	CU_ASSERT_EQUAL(window->gfn, 77);
	CU_ASSERT_EQUAL(window->pages, PAGES);
	CU_ASSERT_TRUE(guest_file_has(g, "console", "kernel module: version 1"));
	CU_ASSERT_EQUAL(await(g, "1-2-3", &sock), 0);
	close(sock);
	/* nothing is said while the guest is quiet */
	quiesce(g, 1, 0);
	guest_expect(g, AGENT_QUIESCED, 0);
	unlink(guest_path(g, "dev/snowflock"));
	CU_ASSERT_FALSE(guest_speaks(g, 100));
	guest_resume(g, 1, 0, 0);
	window = guest_expect(g, AGENT_MODULE, 0);
	CU_ASSERT_EQUAL(window->pages, 0);
	guest_stop(g);
}

static void other_modules_of_that_name_are_none(void)
{
	const struct sfk_where strange[] = {
		{ .version = SFK_VERSION + 1, .gfn = 5, .pages = 1 },
		{ .version = SFK_VERSION, .gfn = 5, .pages = 0 },
		{ .version = SFK_VERSION, .gfn = 5, .pages = SFK_MAX_WINDOW_PAGES + 1 },
	};
	struct guest *g = boot();

	for (unsigned i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
		const struct agent_window *window;

		unlink(guest_path(g, "dev/snowflock"));
		window = guest_expect(g, AGENT_MODULE, 0);
		CU_ASSERT_EQUAL(window->pages, 0);
		appear(g, &strange[i]);
		CU_ASSERT_FALSE(guest_speaks(g, 50));
		load(g, GFN + i);
		guest_expect(g, AGENT_MODULE, 0);
	}
	end(g);
}

/* A clone whose NIC the module has set up, or failed to. Return: what is set then. */
static const char *addresses_of_a_clone(int network_error)
{
	struct agent_resume resume = { .prefix = 20, .mac = { 2, 0, 0, 0, 0, 1 },
				       .address = inet_addr("10.77.0.1"),
				       .parent = inet_addr("10.77.0.1") };
	struct double_answer answer = { .held = { .id = 2, .clone = 1,
						  .network_error = network_error } };
	static char out[4096], err[4096];
	struct guest *g = guest_start_by(run_with_module);
	int sock;

	listen_for_hold(g);
	guest_expect(g, AGENT_HELLO, 0);
	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	expect_resumed(g);
	sock = expect_hold(g, 3);
	resume.op = 3;
	resume.id = 2;
	resume.mac[5] = 3;
	resume.address = inet_addr("10.77.0.3");
	memcpy(answer.held.note, &resume, sizeof(resume));
	send(sock, &answer, sizeof(answer), 0);
	close(sock);
	expect_resumed(g);
	guest_exec(g, 1, 0, "sh", "-c", "ip -o -4 addr show dev seg0 | sed 's/.*inet //;s/ .*//'; "
		   "ip -o link show dev seg0 | sed 's/.*ether //;s/ .*//'", NULL);
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, sizeof(out)), 0);
	CU_ASSERT_EQUAL(guest_file_has(g, "console", "addresses are set from user space"),
			network_error != 0);
	end(g);
	return out;
}

/* Here it did nothing, so one sees that the agent did not either. */
static void a_held_clone_has_its_network_from_the_module(void)
{
	if (!guest_may_own_network())
		return;
	own_network = true;
	CU_ASSERT_STRING_EQUAL(addresses_of_a_clone(0), "10.77.0.1/20\n02:00:00:00:00:01\n");
	CU_ASSERT_STRING_EQUAL(addresses_of_a_clone(EBUSY), "10.77.0.3/20\n02:00:00:00:00:03\n");
	own_network = false;
}

static void the_parent_is_held_and_goes_on(void)
{
	struct guest *g = boot();
	int a = client_connect(g);

	for (uint64_t op = 1; op < 4; op++) {
		int sock = expect_hold(g, op);

		/* what local clients want meanwhile is done after it */
		client_send(a, XS_READ, 1, 0, "x", 2);
		CU_ASSERT_FALSE(client_hears(g->xs, 50));
		CU_ASSERT_FALSE(guest_speaks(g, 0));
		let_go(sock, op, 0, "");
		expect_resumed(g);
		guest_xs_receive(g);
		CU_ASSERT_STRING_EQUAL(g->body, "x");
		guest_xs_send(g, XS_READ, g->head.req_id, 0, "y", 2);
		client_receive(g, a);
	}
	close(a);
	end(g);
}

static void a_held_clone_is_told_who_it_is(void)
{
	static char out[4096], err[4096];
	struct guest *g = boot();
	struct agent_sock_instant told = { 0 };
	int sock, waiting;

	CU_ASSERT_EQUAL(await(g, "80-1-c0ffee", &waiting), 0);
	guest_exec(g, 1, 0, "cat", NULL);
	sock = expect_hold(g, 7);
	let_go(sock, 7, 2, "80-1-c0ffee");
	CU_ASSERT_EQUAL_FATAL(recv(waiting, &told, sizeof(told), 0), sizeof(told));
	CU_ASSERT_EQUAL(told.id, 2);
	CU_ASSERT_EQUAL(told.count, 3);
	close(waiting);
	expect_resumed(g);
	/* standard input is at its end in a clone */
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, sizeof(out)), 0);
	end(g);
}

/* What the agent has to say before the hold must have left it. */
static void the_hold_waits_for_the_port(void)
{
	struct guest *g = boot_by(run_with_narrow_port);
	size_t printed = 0;
	char c;
	int fd;

	CU_ASSERT_EQUAL_FATAL(mkfifo(guest_path(g, "printed"), 0600), 0);
	guest_exec(g, 1, 0, "sh", "-c", "head -c 60000 /dev/zero; echo >$0; read x",
		   guest_path(g, "printed"), NULL);
	fd = open(guest_path(g, "printed"), O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(read(fd, &c, 1), 1);
	close(fd);
	quiesce(g, 5, AGENT_Q_HOLD);
	CU_ASSERT_FALSE(client_hears(host, 100));
	while (printed < 60000) {
		guest_expect(g, AGENT_DATA, 1);
		printed += g->frame.length;
	}
	guest_expect(g, AGENT_QUIESCED, 0);
	let_go(take_hold(5), 5, 0, "");
	expect_resumed(g);
	end(g);
}

static void a_hold_that_fails_is_ended_by_a_frame(void)
{
	struct guest *g = boot();
	int sock = expect_hold(g, 3);

	fail_hold(sock, ETIMEDOUT);
	CU_ASSERT_FALSE(guest_speaks(g, 100));
	guest_resume(g, 3, 0, 0);
	CU_ASSERT_TRUE(guest_file_has(g, "console", "the guest was not held"));
	sock = expect_hold(g, 4);
	let_go(sock, 4, 0, "");
	expect_resumed(g);
	end(g);
}

static void a_busy_module_is_done_without(void)
{
	const struct agent_quiesce *quiesced;
	struct guest *g;

	busy = true;
	g = boot();
	busy = false;
	quiesce(g, 3, AGENT_Q_HOLD);
	quiesced = guest_expect(g, AGENT_QUIESCED, 0);
	CU_ASSERT_EQUAL(quiesced->flags, 0);
	CU_ASSERT_EQUAL(quiesced->window.pages, 0);
	guest_resume(g, 3, 0, 0);
	CU_ASSERT_TRUE(guest_file_has(g, "console", "it cannot hold the guest"));
	end(g);
}

static void nobody_holds_unasked(void)
{
	const struct agent_quiesce *quiesced;
	struct guest *g = boot();

	quiesce(g, 3, 0);
	quiesced = guest_expect(g, AGENT_QUIESCED, 0);
	CU_ASSERT_EQUAL(quiesced->flags, 0);
	CU_ASSERT_EQUAL(quiesced->window.pages, 0);
	CU_ASSERT_FALSE(client_hears(host, 50));
	guest_resume(g, 3, 0, 0);
	end(g);
}

static void a_letter_for_another_ends_the_agent(void)
{
	struct guest *g = boot();
	int sock = expect_hold(g, 3);

	let_go(sock, 4, 1, "");
	CU_ASSERT_EQUAL(guest_wait(g), 1);
	end(g);
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "without module it says so and does not hold",
		  without_module_it_says_so_and_does_not_hold },
		{ "random numbers are told apart without module",
		  random_numbers_are_told_apart_without_module },
		{ "it comes and goes", it_comes_and_goes },
		{ "other modules of that name are none", other_modules_of_that_name_are_none },
		{ "the parent is held and goes on", the_parent_is_held_and_goes_on },
		{ "a held clone is told who it is", a_held_clone_is_told_who_it_is },
		{ "a held clone has its network from the module",
		  a_held_clone_has_its_network_from_the_module },
		{ "the hold waits for the port", the_hold_waits_for_the_port },
		{ "a hold that fails is ended by a frame", a_hold_that_fails_is_ended_by_a_frame },
		{ "a busy module is done without", a_busy_module_is_done_without },
		{ "nobody holds unasked", nobody_holds_unasked },
		{ "a letter for another ends the agent", a_letter_for_another_ends_the_agent },
		CU_TEST_INFO_NULL
	};

	if (!getenv("SF_MODULE_DOUBLE")) {
		fprintf(stderr, "SF_MODULE_DOUBLE is not set\n");
		return 77;
	}
	return run_suite("module", tests);
}
