/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting an agent on socket pairs, and speaking with it. */
#define _GNU_SOURCE
#include "harness.h"

#include <CUnit/Basic.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	CU_FAIL_FATAL("no answer as expected");
	exit(1);
}

void guest_run_agent(const struct guest *g, int port, int xs, const char *const *options)
{
	const char *program = getenv("SF_AGENT") ? getenv("SF_AGENT") : "sf-agent";
	char port_arg[32], xs_arg[32], xs_socket[64], socket_arg[64], results[64], module[64];
	char root[64];
	const char *argv[16] = { NULL, port_arg, xs_arg, xs_socket, socket_arg, results, module,
				 root };
	int count;

	snprintf(port_arg, sizeof(port_arg), "--agent-port=%d", dup(port));
	snprintf(xs_arg, sizeof(xs_arg), "--xenstore-port=%d", dup(xs));
	snprintf(xs_socket, sizeof(xs_socket), "--xenstore-socket=%s/xs", g->dir);
	snprintf(socket_arg, sizeof(socket_arg), "--agent-socket=%s/agent", g->dir);
	snprintf(results, sizeof(results), "--result-dir=%s/result", g->dir);
	snprintf(module, sizeof(module), "--module=%s/dev/snowflock", g->dir);
	/* nothing of this machine's own is to be touched */
	snprintf(root, sizeof(root), "--root=%s/root", g->dir);
	argv[0] = program;
	for (count = 8; *options; count++)
		argv[count] = *options++;
	execv(program, (char **)argv);
	perror(program);
	_exit(127);
}

static void run_agent(const struct guest *g, int port, int xs)
{
	guest_run_agent(g, port, xs, (const char *const[]){ "--no-network", NULL });
}

struct guest *guest_start_by(void (*run)(const struct guest *guest, int port, int xs))
{
	struct guest *g = calloc(1, sizeof(*g));
	int port[2], xs[2];

	must(g, "memory");
	strcpy(g->dir, "/tmp/sf-guest-XXXXXX");
	must(mkdtemp(g->dir), "folder");
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, port), "socketpair");
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, xs), "socketpair");
	g->pid = fork();
	if (!g->pid) {
		run(g, port[1], xs[1]);
		_exit(1);
	}
	close(port[1]);
	close(xs[1]);
	g->port = port[0];
	g->xs = xs[0];
	return g;
}

struct guest *guest_start(void)
{
	return guest_start_by(run_agent);
}

struct guest *guest_boot_by(void (*run)(const struct guest *guest, int port, int xs),
			    uint16_t answer_port)
{
	struct guest *g = guest_start_by(run);
	const struct agent_hello *hello = guest_expect(g, AGENT_HELLO, 0);

	CU_ASSERT_EQUAL_FATAL(hello->version, AGENT_VERSION);
	guest_resume(g, 0, 0, answer_port);
	return g;
}

struct guest *guest_boot(uint16_t answer_port)
{
	return guest_boot_by(run_agent, answer_port);
}

void guest_stop(struct guest *g)
{
	char command[64];

	if (g->pid > 0) {
		kill(g->pid, SIGTERM);
		waitpid(g->pid, NULL, 0);
	}
	close(g->port);
	close(g->xs);
	snprintf(command, sizeof(command), "rm -rf %s", g->dir);
	must(!system(command), "rm");
	free(g);
}

int guest_wait(struct guest *g)
{
	int status;

	for (int i = 0; i < GUEST_WAIT_MS / 10; i++) {
		if (waitpid(g->pid, &status, WNOHANG) == g->pid) {
			g->pid = -1;
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		}
		poll(NULL, 0, 10);
	}
	CU_FAIL_FATAL("the agent does not end");
	return -1;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

/* Reads all of it, or fails for good. */
static void get(int fd, void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t got;

		must(readable(fd, GUEST_WAIT_MS), "time");
		got = read(fd, (char *)buf + at, len - at);
		must(got > 0, "end of the stream");
		at += (size_t)got;
	}
}

void guest_send(struct guest *g, unsigned type, unsigned channel, uint32_t stream,
		const void *payload, size_t len)
{
	struct agent_frame frame = { .length = (uint32_t)len, .type = (uint16_t)type,
				     .channel = (uint16_t)channel, .stream = stream };

	must(!io_write_full(g->port, &frame, sizeof(frame)), "frame");
	must(!io_write_full(g->port, payload, len), "payload");
}

void guest_receive(struct guest *g)
{
	get(g->port, &g->frame, sizeof(g->frame));
	must(g->frame.length <= AGENT_MAX_FRAME, "length");
	get(g->port, g->payload, g->frame.length);
}

const void *guest_expect(struct guest *g, unsigned type, uint32_t stream)
{
	guest_receive(g);
	CU_ASSERT_EQUAL_FATAL(g->frame.type, type);
	CU_ASSERT_EQUAL_FATAL(g->frame.stream, stream);
	return g->payload;
}

bool guest_own_network(void)
{
	return !unshare(CLONE_NEWNET) &&
	       !system("echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && "
		       "ip link add seg0 address 02:00:00:00:00:01 type veth peer name far0 && "
		       "ip link set far0 up");
}

bool guest_may_own_network(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(!guest_own_network());
	return waitpid(pid, &status, 0) == pid && !status;
}

char *guest_path(const struct guest *g, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", g->dir, name);
	return path;
}

void guest_file(const struct guest *g, const char *name, unsigned mode, const char *text)
{
	char *path = guest_path(g, name);
	int fd;

	for (char *slash = path + strlen(g->dir) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		must(!mkdir(path, 0755) || errno == EEXIST, path);
		*slash = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	must(fd >= 0 && !io_write_full(fd, text, strlen(text)) && !fchmod(fd, mode), path);
	close(fd);
}

bool guest_file_has(const struct guest *g, const char *name, const char *words)
{
	char *text = NULL;
	bool has = false;
	size_t len;

	if (!io_read_file(guest_path(g, name), 1 << 20, &text, &len))
		has = strstr(text, words);
	free(text);
	return has;
}

bool guest_speaks(struct guest *g, int ms)
{
	return readable(g->port, ms);
}

void guest_resume(struct guest *g, uint64_t op, uint32_t id, uint16_t answer_port)
{
	struct agent_resume resume = { .op = op, .id = id, .count = 4, .prefix = 8,
				       .address = htobe32(0x7f000001 + id),
				       .parent = htobe32(0x7f000001), .answer_port = answer_port };
	const struct agent_status *status;

	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	status = guest_expect(g, AGENT_RESUMED, 0);
	CU_ASSERT_EQUAL_FATAL(status->value, 0);
}

void guest_quiesce(struct guest *g, uint64_t op)
{
	struct agent_quiesce quiesce = { .op = op, .xs_sent = g->xs_sent };

	guest_send(g, AGENT_QUIESCE, 0, 0, &quiesce, sizeof(quiesce));
}

void guest_exec(struct guest *g, uint32_t stream, uint32_t flags, const char *command, ...)
{
	uint8_t buf[8192] __attribute__((aligned(8)));
	struct agent_exec *exec = (struct agent_exec *)buf;
	size_t at = sizeof(*exec);
	va_list args;

	*exec = (struct agent_exec){ .flags = flags, .rows = 24, .columns = 80 };
	va_start(args, command);
	for (const char *arg = command; arg; arg = va_arg(args, const char *)) {
		memcpy(buf + at, arg, strlen(arg) + 1);
		at += strlen(arg) + 1;
		exec->argc++;
	}
	va_end(args);
	exec->envc = 1;
	memcpy(buf + at, "SF_TEST=there\0/", sizeof("SF_TEST=there\0/"));
	at += sizeof("SF_TEST=there\0/");
	guest_send(g, AGENT_EXEC, 0, stream, buf, at);
}

int guest_output(struct guest *g, uint32_t stream, char *out, char *err, size_t room)
{
	size_t used[2] = { 0, 0 };
	char *to[2] = { out, err };

	for (;;) {
		guest_receive(g);
		CU_ASSERT_EQUAL_FATAL(g->frame.stream, stream);
		if (g->frame.type == AGENT_EXITED)
			break;
		CU_ASSERT_EQUAL_FATAL(g->frame.type, AGENT_DATA);
		if (g->frame.channel != AGENT_STDIN && g->frame.channel <= AGENT_STDERR) {
			int i = g->frame.channel - AGENT_STDOUT;
			struct agent_credit credit = { .bytes = g->frame.length };

			must(used[i] + g->frame.length < room, "room");
			memcpy(to[i] + used[i], g->payload, g->frame.length);
			used[i] += g->frame.length;
			if (g->frame.length)
				guest_send(g, AGENT_CREDIT, g->frame.channel, stream, &credit,
					   sizeof(credit));
		}
	}
	out[used[0]] = err[used[1]] = 0;
	return ((struct agent_status *)g->payload)->value;
}

void guest_xs_receive(struct guest *g)
{
	get(g->xs, &g->head, sizeof(g->head));
	must(g->head.len <= XENSTORE_PAYLOAD_MAX, "length");
	get(g->xs, g->body, g->head.len);
	g->body[g->head.len] = 0;
}

void guest_xs_send(struct guest *g, uint32_t type, uint32_t req_id, uint32_t tx_id,
		   const char *body, size_t len)
{
	client_send(g->xs, type, req_id, tx_id, body, len);
	g->xs_sent += sizeof(struct xsd_sockmsg) + len;
}

void guest_xs_answer(struct guest *g, uint32_t type, const char *answer)
{
	guest_xs_receive(g);
	CU_ASSERT_EQUAL_FATAL(g->head.type, type);
	guest_xs_send(g, type, g->head.req_id, g->head.tx_id, answer, strlen(answer) + 1);
}

static int connect_to(struct guest *g, const char *name, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", g->dir, name);
	must(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)), name);
	return fd;
}

int client_connect(struct guest *g)
{
	return connect_to(g, "xs", SOCK_STREAM);
}

int sock_connect(struct guest *g)
{
	return connect_to(g, "agent", SOCK_SEQPACKET);
}

void client_send(int fd, uint32_t type, uint32_t req_id, uint32_t tx_id, const char *body,
		 size_t len)
{
	struct xsd_sockmsg head = { type, req_id, tx_id, (uint32_t)len };

	must(!io_write_full(fd, &head, sizeof(head)), "message");
	must(!io_write_full(fd, body, len), "body");
}

void client_receive(struct guest *g, int fd)
{
	get(fd, &g->head, sizeof(g->head));
	must(g->head.len <= XENSTORE_PAYLOAD_MAX, "length");
	get(fd, g->body, g->head.len);
	g->body[g->head.len] = 0;
}

bool client_hears(int fd, int ms)
{
	return readable(fd, ms);
}

int run_suite(const char *name, const CU_TestInfo *tests)
{
	CU_SuiteInfo suites[] = { { name, NULL, NULL, NULL, NULL, (CU_TestInfo *)tests },
				  CU_SUITE_INFO_NULL };
	unsigned failures;

	signal(SIGPIPE, SIG_IGN);
	if (CU_initialize_registry() || CU_register_suites(suites))
		return 2;
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failures = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failures ? 1 : 0;
}
