/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf-agent: owns the two ports of a Snowflock guest and serves what runs in it. */
#define _GNU_SOURCE
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/reseed.h"
#include "agent/vport.h"
#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "proto/agent-socket.h"

#define XENSTORE_SOCKET "/run/xenstored/socket"
#define CLONE_CONF "/etc/snowflock/clone.conf"
#define CLONE_HOOKS "/etc/snowflock/clone.d"
#define MACHINE_ID "/etc/machine-id"
#define DBUS_MACHINE_ID "/var/lib/dbus/machine-id"
#define PORT_WAIT_MS 30000
#define BACKLOG 128

struct options {
	const char *xenstore_port, *agent_port;
	const char *xenstore_socket, *agent_socket, *result_dir;
	const char *nic, *module, *root;
	unsigned hook_limit_s;
	bool no_network;
};

enum option_key { KEY_XS_PORT = 256, KEY_PORT, KEY_XS_SOCKET, KEY_SOCKET, KEY_RESULTS, KEY_NIC,
		  KEY_NO_NETWORK, KEY_MODULE, KEY_ROOT, KEY_HOOK_LIMIT };

static const struct argp_option option_table[] = {
	{ "xenstore-port", KEY_XS_PORT, "PORT", 0, "XenStore port: name, path or number", 0 },
	{ "agent-port", KEY_PORT, "PORT", 0, "The agent's port: name, path or number", 0 },
	{ "xenstore-socket", KEY_XS_SOCKET, "PATH", 0, "Serve XenStore clients here", 0 },
	{ "agent-socket", KEY_SOCKET, "PATH", 0, "Serve libsf here", 0 },
	{ "result-dir", KEY_RESULTS, "PATH", 0, "Store results of clones here", 0 },
	{ "nic", KEY_NIC, "NAME", 0, "The interface on the clones' segment", 0 },
	{ "module", KEY_MODULE, "PATH", 0, "The kernel module's device", 0 },
	{ "root", KEY_ROOT, "PATH", 0, "Find /etc and /var below this folder", 0 },
	{ "hook-limit", KEY_HOOK_LIMIT, "SECONDS", 0, "End a hook that takes longer", 0 },
	{ "no-network", KEY_NO_NETWORK, NULL, 0, "Leave network and clock as they are", 0 },
	{ 0 }
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case KEY_XS_PORT:
		options->xenstore_port = arg;
		return 0;
	case KEY_PORT:
		options->agent_port = arg;
		return 0;
	case KEY_XS_SOCKET:
		options->xenstore_socket = arg;
		return 0;
	case KEY_SOCKET:
		options->agent_socket = arg;
		return 0;
	case KEY_RESULTS:
		options->result_dir = arg;
		return 0;
	case KEY_NIC:
		options->nic = arg;
		return 0;
	case KEY_MODULE:
		options->module = arg;
		return 0;
	case KEY_ROOT:
		options->root = arg;
		return 0;
	case KEY_HOOK_LIMIT:
		options->hook_limit_s = (unsigned)atoi(arg);
		if (!options->hook_limit_s)
			argp_error(state, "--hook-limit is a number of seconds");
		return 0;
	case KEY_NO_NETWORK:
		options->no_network = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "no arguments are taken");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Opens a port given by name, path or number. Return: a non-blocking descriptor, or -errno. */
static int open_port(const char *port)
{
	int fd, error;

	if (*port == '/') {
		fd = open(port, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	if (!isdigit((unsigned char)*port))
		return vport_open(port, PORT_WAIT_MS);
	fd = atoi(port);
	error = io_set_nonblock(fd, true);
	if (!error)
		error = io_set_inherit(fd, false);
	return error ? error : fd;
}

/* Makes a socket's folder and listens there, for everyone. Return: the descriptor or -errno. */
static int listen_at(const char *path, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_free_ char *folder = strdup(path);
	_cleanup_fd_ int fd = -1;

	if (!folder)
		return -ENOMEM;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	*strrchr(folder, '/') = 0;
	if (mkdir(folder, 0755) && errno != EEXIST)
		return -errno;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || chmod(path, 0666) ||
	    listen(fd, BACKLOG))
		return -errno;
	return steal_fd(&fd);
}

/* A path below the root. Return: it, never freed; NULL without memory. */
static char *below(const char *root, const char *path)
{
	char *whole;

	return asprintf(&whole, "%s%s", root, path) < 0 ? NULL : whole;
}

/* What the guest's owner wants to be a clone's own. Return: 0 or -errno. */
static int init_own(struct agent *agent, const struct options *options)
{
	const char *config = below(options->root, CLONE_CONF);
	const char *machine_id = below(options->root, MACHINE_ID);
	const char *dbus_machine_id = below(options->root, DBUS_MACHINE_ID);
	const char *hooks = below(options->root, CLONE_HOOKS);

	if (!config || !machine_id || !dbus_machine_id || !hooks)
		return -ENOMEM;
	identity_init(&agent->identity, config, machine_id, dbus_machine_id);
	hooks_init(&agent->hooks, &agent->loop, hooks, options->hook_limit_s, quiesce_hooked,
		   agent);
	agent->random_fd = reseed_open();
	return 0;
}

/* A clone arrived. Return: false if sfd cannot be told now. */
static bool on_answered(void *arg, uint32_t id, uint32_t slot)
{
	struct agent *agent = arg;
	struct agent_answered answered = { .id = id, .slot = slot };
	size_t room;

	if (!port_data(&agent->port, &room))
		return false;
	port_send(&agent->port, AGENT_ANSWERED, 0, 0, &answered, sizeof(answered));
	return true;
}

/* The module was loaded or unloaded. */
static void on_module(void *arg)
{
	struct agent *agent = arg;

	port_send(&agent->port, AGENT_MODULE, 0, 0, &agent->module.window,
		  sizeof(agent->module.window));
}

/* Makes descriptors 0 to 2 something, and room for many clients. */
static void prepare_process(void)
{
	struct rlimit files;
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
}

static int fail(const char *what, int error)
{
	log_err("%s: %s", what, strerror(-error));
	return 1;
}

static int serve(struct agent *agent, const struct options *options)
{
	struct agent_hello hello = { .version = AGENT_VERSION };
	int xs_listen, listen_fd, xs_port, port, error;

	xs_listen = listen_at(options->xenstore_socket, SOCK_STREAM);
	if (xs_listen < 0)
		return fail(options->xenstore_socket, xs_listen);
	listen_fd = listen_at(options->agent_socket, SOCK_SEQPACKET);
	if (listen_fd < 0)
		return fail(options->agent_socket, listen_fd);
	if (mkdir(options->result_dir, 0755) && errno != EEXIST)
		return fail(options->result_dir, -errno);
	xs_port = open_port(options->xenstore_port);
	if (xs_port < 0)
		return fail(options->xenstore_port, xs_port);
	port = open_port(options->agent_port);
	if (port < 0)
		return fail(options->agent_port, port);
	error = loop_init(&agent->loop);
	if (!error)
		error = execs_init(&agent->execs, &agent->loop, &agent->port);
	if (!error)
		error = init_own(agent, options);
	if (error)
		return fail("start", error);
	netcfg_init(&agent->netcfg, options->nic, options->no_network);
	arrive_init(&agent->arrive, &agent->loop, on_answered, agent);
	transfers_init(&agent->transfers, &agent->port, options->result_dir);
	local_init(&agent->local, &agent->loop, listen_fd, &agent->id, &agent->transfers,
		   &agent->arrive, &agent->module);
	xsmux_init(&agent->xsmux, &agent->loop, xs_port, xs_listen, quiesce_step, agent);
	port_init(&agent->port, &agent->loop, port, &agent_frames, agent);
	module_init(&agent->module, &agent->loop, options->module, on_module, agent);
	hello.window = agent->module.window;
	port_send(&agent->port, AGENT_HELLO, 0, 0, &hello, sizeof(hello));
	return loop_run(&agent->loop);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = option_table, .parser = parse_option,
		.doc = "Snowflock's agent in the guest. It is started by the guest's init."
	};
	static struct agent agent;
	struct options options = {
		.xenstore_port = XENSTORE_PORT_NAME, .agent_port = AGENT_PORT_NAME,
		.xenstore_socket = XENSTORE_SOCKET, .agent_socket = AGENT_SOCKET,
		.result_dir = AGENT_RESULT_DIR, .nic = "eth0", .module = SFK_DEVICE,
		.root = "", .hook_limit_s = HOOKS_LIMIT_S,
	};

	log_init("sf-agent", LOG_LVL_INFO);
	argp_parse(&argp, argc, argv, 0, NULL, &options);
	prepare_process();
	return serve(&agent, &options);
}
