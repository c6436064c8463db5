/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest's owner wants of clones: clone.conf and the hooks in clone.d. */
#define _GNU_SOURCE
#include <ctype.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "harness.h"

#define ROOM 65536
#define CONF "root/etc/snowflock/clone.conf"
#define HOOK "root/etc/snowflock/clone.d/"
#define OLD_ID "0123456789abcdef0123456789abcdef\n"

static char out[ROOM], err[ROOM];
static bool own_hostname;	/* may this machine give us one */

/* In the agent's process: a hostname of its own, and its log in a file. */
static void run(const struct guest *g, int port, int xs)
{
	static const char *const options[] = { "--no-network", "--hook-limit=1", NULL };
	int console = open(guest_path(g, "console"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
			   0600);

	dup2(console, STDERR_FILENO);
	setenv("SF_LOG", "info", 1);
	setenv("SF_TEST_DIR", g->dir, 1);
	if (own_hostname && (unshare(CLONE_NEWUTS) || sethostname("mother", 6)))
		_exit(1);
	guest_run_agent(g, port, xs, options);
}

/* Makes it quiet as the parent, with everything that a hook or setting is about in place. */
static void make_quiet(struct guest *g)
{
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
}

static void become(struct guest *g, uint32_t id)
{
	const struct agent_resume resume = { .op = 1, .id = id, .count = 4, .checkpoint = 6,
					     .address = htobe32(0x0a070000 + id),
					     .parent = htobe32(0x0a070000),
					     .request = "1-2-3" };

	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
}

static void expect_resumed(struct guest *g)
{
	CU_ASSERT_EQUAL(((const struct agent_status *)guest_expect(g, AGENT_RESUMED, 0))->value, 0);
}

static int await(struct guest *g)
{
	const struct agent_sock_await wish = { .head = { .op = AGENT_SOCK_AWAIT },
					       .request = "1-2-3" };
	struct agent_sock_reply noted;
	int sock = sock_connect(g);

	send(sock, &wish, sizeof(wish), 0);
	CU_ASSERT_EQUAL_FATAL(recv(sock, &noted, sizeof(noted), 0), sizeof(noted));
	return sock;
}

static void says(struct guest *g, const char *words)
{
	bool has = guest_file_has(g, "console", words);

	CU_ASSERT_TRUE(has);
	if (!has)
		fprintf(stderr, "missing in the log: %s\n", words);
}

/* The content of a file in the guest's folder, until the next call. */
static const char *content(struct guest *g, const char *name)
{
	static char *text;
	size_t len;

	free(text);
	text = NULL;
	return io_read_file(guest_path(g, name), ROOM, &text, &len) ? "" : text;
}

static void hooks_run_in_order_before_anybody_is_told(void)
{
	struct guest *g = guest_boot_by(run, 0);
	struct agent_sock_instant told;
	int sock = await(g), late = client_connect(g);

	guest_file(g, HOOK "20-second", 0755,
		   "#!/bin/sh\nsleep 0.2\necho two $SF_ID $SF_COUNT $SF_ADDRESS $SF_PARENT "
		   "$SF_CHECKPOINT >>$SF_TEST_DIR/ran\n");
	guest_file(g, HOOK "10_first", 0755, "#!/bin/sh\necho one >>$SF_TEST_DIR/ran\necho heard\n"
		   "cat\n");
	guest_file(g, HOOK "15-not-executable", 0644, "#!/bin/sh\necho no >>$SF_TEST_DIR/ran\n");
	guest_file(g, HOOK "15-dotted.sh", 0755, "#!/bin/sh\necho no >>$SF_TEST_DIR/ran\n");
	guest_file(g, HOOK "15-folder/file", 0755, "");
	make_quiet(g);
	client_send(late, XS_READ, 1, 0, "x", 2);
	become(g, 2);
	CU_ASSERT_FALSE(client_hears(sock, 100));
	CU_ASSERT_FALSE(guest_speaks(g, 0));
	CU_ASSERT_FALSE(client_hears(g->xs, 0));
	CU_ASSERT_EQUAL_FATAL(recv(sock, &told, sizeof(told), 0), sizeof(told));
	CU_ASSERT_EQUAL(told.id, 2);
	CU_ASSERT_STRING_EQUAL(content(g, "ran"), "one\ntwo 2 4 10.7.0.2 10.7.0.0 6\n");
	says(g, "heard\n");
	close(sock);
	expect_resumed(g);
	guest_xs_receive(g);
	close(late);
	guest_stop(g);
}

static void what_fails_is_told_and_the_clone_goes_on(void)
{
	struct guest *g = guest_boot_by(run, 0);

	guest_file(g, HOOK "a", 0755, "#!/bin/sh\nexit 3\n");
	guest_file(g, HOOK "b", 0755, "#!/bin/sh\nkill -SEGV $$\n");
	guest_file(g, HOOK "c", 0755, "#!/no/such/shell\n");
	guest_file(g, HOOK "d", 0755, "#!/bin/sh\necho last >$SF_TEST_DIR/ran\n");
	make_quiet(g);
	become(g, 1);
	expect_resumed(g);
	says(g, "clone.d/a: exit status 3");
	says(g, "clone.d/b: ended by signal 11");
	says(g, "clone.d/c: exit status 127");
	CU_ASSERT_STRING_EQUAL(content(g, "ran"), "last\n");
	guest_exec(g, 1, 0, "echo", "well", NULL);
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, ROOM), 0);
	CU_ASSERT_STRING_EQUAL(out, "well\n");
	guest_stop(g);
}

static void a_slow_hook_is_killed_with_its_children(void)
{
	struct guest *g = guest_boot_by(run, 0);
	uint64_t begin_ns;
	int alive;

	/* who holds the pipe's other end lives */
	CU_ASSERT_EQUAL_FATAL(mkfifo(guest_path(g, "alive"), 0600), 0);
	alive = open(guest_path(g, "alive"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	guest_file(g, HOOK "slow", 0755,
		   "#!/bin/sh\nexec 9>$SF_TEST_DIR/alive\nsleep 1000 & wait\n");
	guest_file(g, HOOK "then", 0755, "#!/bin/sh\necho then >$SF_TEST_DIR/ran\n");
	make_quiet(g);
	begin_ns = io_now_ns();
	become(g, 1);
	expect_resumed(g);
	CU_ASSERT_TRUE(io_now_ns() - begin_ns >= 900000000u);
	says(g, "clone.d/slow: killed, it took longer than 1 s");
	CU_ASSERT_STRING_EQUAL(content(g, "ran"), "then\n");
	CU_ASSERT_TRUE(client_hears(alive, GUEST_WAIT_MS));	/* at its end: nobody has it */
	CU_ASSERT_EQUAL(read(alive, out, 1), 0);
	close(alive);
	/* and the agent reaps it */
	guest_exec(g, 1, 0, "sh", "-c", "sleep 0.1; ps -o stat= --ppid $PPID", NULL);
	guest_output(g, 1, out, err, ROOM);
	CU_ASSERT_PTR_NULL(strchr(out, 'Z'));
	guest_stop(g);
}

static void what_the_host_says_meanwhile_waits(void)
{
	struct guest *g = guest_boot_by(run, 0);

	guest_file(g, HOOK "a", 0755, "#!/bin/sh\nsleep 0.2\necho hook >>$SF_TEST_DIR/ran\n");
	make_quiet(g);
	become(g, 1);
	guest_exec(g, 5, 0, "sh", "-c", "echo command >>$SF_TEST_DIR/ran", NULL);
	expect_resumed(g);
	guest_exec(g, 6, 0, "true", NULL);
	while (guest_receive(g), g->frame.type != AGENT_EXITED || g->frame.stream != 5)
		;
	CU_ASSERT_STRING_EQUAL(content(g, "ran"), "hook\ncommand\n");
	guest_stop(g);
}

static void parents_run_none_and_clones_those_of_the_instant(void)
{
	struct guest *g = guest_boot_by(run, 0);

	guest_file(g, HOOK "a", 0755, "#!/bin/sh\necho a >>$SF_TEST_DIR/ran\n");
	make_quiet(g);
	become(g, 0);
	expect_resumed(g);
	CU_ASSERT_STRING_EQUAL(content(g, "ran"), "");
	unlink(guest_path(g, HOOK "a"));
	make_quiet(g);
	guest_file(g, HOOK "b", 0755, "#!/bin/sh\necho b >>$SF_TEST_DIR/ran\n");
	become(g, 1);
	expect_resumed(g);
	CU_ASSERT_STRING_EQUAL(content(g, "ran"), "");
	guest_stop(g);
}

static void hostname_is(struct guest *g, uint32_t stream, const char *expected)
{
	guest_exec(g, stream, 0, "uname", "-n", NULL);
	CU_ASSERT_EQUAL(guest_output(g, stream, out, err, ROOM), 0);
	out[strcspn(out, "\n")] = 0;
	CU_ASSERT_STRING_EQUAL(out, expected);
}

static void a_clone_is_called_as_configured(void)
{
	struct guest *g;

	if (!own_hostname)
		return;
	g = guest_boot_by(run, 0);
	guest_file(g, CONF, 0644, "# names\n\n hostname = worker-%i.of.%h # not less\n");
	guest_file(g, HOOK "a", 0755, "#!/bin/sh\nuname -n >$SF_TEST_DIR/ran\n");
	make_quiet(g);
	become(g, 0);
	expect_resumed(g);
	hostname_is(g, 1, "mother");
	make_quiet(g);
	become(g, 12);
	expect_resumed(g);
	hostname_is(g, 2, "worker-12.of.mother");
	CU_ASSERT_STRING_EQUAL(content(g, "ran"), "worker-12.of.mother\n");
	guest_stop(g);
}

static void a_name_too_long_is_told(void)
{
	struct guest *g;

	if (!own_hostname)
		return;
	g = guest_boot_by(run, 0);
	guest_file(g, CONF, 0644, "hostname=%h%h%h%h%h%h%h%h%h%h%h\n");
	make_quiet(g);
	become(g, 1);
	expect_resumed(g);
	says(g, "is too long here");
	hostname_is(g, 1, "mother");
	guest_stop(g);
}

static bool is_machine_id(const char *text)
{
	size_t digits = strspn(text, "0123456789abcdef");

	return digits == 32 && !strcmp(text + digits, "\n");
}

static void a_machine_id_is_new_where_wanted(void)
{
	struct guest *g = guest_boot_by(run, 0);
	char first[64];

	guest_file(g, "root/etc/machine-id", 0444, OLD_ID);
	guest_file(g, "root/var/lib/dbus/machine-id", 0444, OLD_ID);
	make_quiet(g);
	become(g, 1);
	expect_resumed(g);
	CU_ASSERT_STRING_EQUAL(content(g, "root/etc/machine-id"), OLD_ID);
	guest_stop(g);
	for (int linked = 0; linked < 2; linked++) {
		g = guest_boot_by(run, 0);
		guest_file(g, "root/etc/machine-id", 0444, OLD_ID);
		guest_file(g, "root/var/lib/dbus/machine-id", 0444, OLD_ID);
		if (linked) {
			unlink(guest_path(g, "root/var/lib/dbus/machine-id"));
			CU_ASSERT_EQUAL(symlink("/nowhere",
						guest_path(g, "root/var/lib/dbus/machine-id")), 0);
		}
		guest_file(g, CONF, 0644, "machine-id = new\n");
		make_quiet(g);
		become(g, 1);
		expect_resumed(g);
		snprintf(first, sizeof(first), "%s", content(g, "root/etc/machine-id"));
		CU_ASSERT_TRUE(is_machine_id(first));
		CU_ASSERT_STRING_NOT_EQUAL(first, OLD_ID);
		if (!linked)
			CU_ASSERT_STRING_EQUAL(content(g, "root/var/lib/dbus/machine-id"), first);
		guest_exec(g, 1, 0, "sh", "-c", "ls $SF_TEST_DIR/root/etc; "
			   "readlink $SF_TEST_DIR/root/var/lib/dbus/machine-id; "
			   "stat -c %a $SF_TEST_DIR/root/etc/machine-id", NULL);
		guest_output(g, 1, out, err, ROOM);
		CU_ASSERT_STRING_EQUAL(out, linked ? "machine-id\nsnowflock\n/nowhere\n444\n"
						   : "machine-id\nsnowflock\n444\n");
		guest_stop(g);
	}
}

static void bad_lines_are_told_and_ignored(void)
{
	struct guest *g = guest_boot_by(run, 0);

	guest_file(g, "root/etc/machine-id", 0444, OLD_ID);
	guest_file(g, CONF, 0644,
		   "nonsense\n"
		   "# a comment\n"
		   "color = blue\n"
		   "hostname = a b\n"
		   "hostname = %x\n"
		   "hostname =\n"
		   "machine-id = other\n"
		   "machine-id = new\n"
		   "machine-id = maybe");
	make_quiet(g);
	says(g, "clone.conf: line 1 is ignored: it is no NAME = VALUE");
	says(g, "clone.conf: line 3 is ignored: there is no such setting");
	says(g, "clone.conf: line 4 is ignored: a hostname has");
	says(g, "clone.conf: line 5 is ignored: a hostname has");
	says(g, "clone.conf: line 6 is ignored: a hostname has");
	says(g, "clone.conf: line 7 is ignored: it is new or keep");
	says(g, "clone.conf: line 9 is ignored: it is new or keep");
	become(g, 1);
	expect_resumed(g);
	CU_ASSERT_STRING_NOT_EQUAL(content(g, "root/etc/machine-id"), OLD_ID);
	guest_stop(g);
}

/* It is read again when it has changed, and only then. */
static void a_changed_file_is_read_again(void)
{
	struct guest *g = guest_boot_by(run, 0);
	const char *first;

	guest_file(g, CONF, 0644, "one\n");
	for (int i = 0; i < 2; i++) {
		make_quiet(g);
		become(g, 0);
		expect_resumed(g);
	}
	first = strstr(content(g, "console"), "line 1 is ignored");
	CU_ASSERT_PTR_NOT_NULL_FATAL(first);
	CU_ASSERT_PTR_NULL(strstr(first + 1, "line 1 is ignored"));
	guest_file(g, CONF, 0644, "\ntwo\n");
	make_quiet(g);
	says(g, "line 2 is ignored");
	become(g, 0);
	expect_resumed(g);
	unlink(guest_path(g, CONF));
	make_quiet(g);
	become(g, 1);
	expect_resumed(g);
	guest_stop(g);
}

static bool may_have_own_hostname(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(unshare(CLONE_NEWUTS) ? 1 : 0);
	return waitpid(pid, &status, 0) == pid && !status;
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "hooks run in order, before anybody is told",
		  hooks_run_in_order_before_anybody_is_told },
		{ "what fails is told and the clone goes on",
		  what_fails_is_told_and_the_clone_goes_on },
		{ "a slow hook is killed with its children",
		  a_slow_hook_is_killed_with_its_children },
		{ "what the host says meanwhile waits", what_the_host_says_meanwhile_waits },
		{ "parents run none, and clones those of the instant",
		  parents_run_none_and_clones_those_of_the_instant },
		{ "a clone is called as configured", a_clone_is_called_as_configured },
		{ "a name too long is told", a_name_too_long_is_told },
		{ "a machine id is new where wanted", a_machine_id_is_new_where_wanted },
		{ "bad lines are told and ignored", bad_lines_are_told_and_ignored },
		{ "a changed file is read again", a_changed_file_is_read_again },
		CU_TEST_INFO_NULL
	};

	own_hostname = may_have_own_hostname();
	if (!own_hostname)
		fprintf(stderr, "no hostname of its own here: those tests do nothing\n");
	return run_suite("hooks", tests);
}
