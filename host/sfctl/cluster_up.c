/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl cluster up: hosts on this machine as namespaces, or this machine as one host of a hosts
 * file. What was begun and does not come to its end is taken down again.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/link.h"
#include "host/sfctl/client.h"
#include "host/sfctl/cluster.h"
#include "host/sfctl/daemon.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/memory.h"
#include "host/sfctl/paths.h"
#include "host/sfctl/text.h"
#include "host/vnet/embed.h"
#include "proto/control.h"

#define UP_WAIT_MS 15000
#define UP_WAIT_MS_PER_HOST 1000
#define MEM_SHARE(bytes) ((bytes) / 10 * 9)
#define MIN_HOST_MEM (128ull << 20)
#define HELLO_WAIT_MS 2000
#define LOG_LINES 15 /* shown of the log of a daemon that does not start */
#define LOG_MAX (4u << 20)

struct up {
	struct sfctl *ctl;
	unsigned hosts; /* embedded; 0: a real host */
	uint64_t mem_bytes;
	const char *accel;
	const char *guest;
	char data[PATH_MAX]; /* absolute; empty: the daemon's default */
	const char *hosts_file, *host, *key_file; /* real */
	const char *distribution, *push, *compress; /* NULL: the daemon's default */
};

/* Set by a signal: give up and take down. */
static volatile bool up_stopped;

static void on_signal(int signal)
{
	(void)signal;
	up_stopped = true;
}

static void catch_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal };

	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
}

enum { OPT_MEM = 256, OPT_ACCEL, OPT_GUEST, OPT_HOSTS_FILE, OPT_HOST, OPT_KEY, OPT_DISTRIBUTION,
       OPT_PUSH, OPT_COMPRESS, OPT_DATA };

static const struct argp_option options[] = {
	{ NULL, 0, NULL, 0, "Hosts on this machine, each in a network namespace:", 1 },
	{ "hosts", 'n', "N", 0, "how many [4]", 1 },
	{ "mem-per-host", OPT_MEM, "SIZE", 0,
	  "memory of each for VMs, as in 4G [its share of what is free]", 1 },
	{ NULL, 0, NULL, 0,
	  "This machine as one of several; the same on each, with its own name:", 2 },
	{ "hosts-file", OPT_HOSTS_FILE, "FILE", 0,
	  "a line for each host: NAME ADDRESS[:PORT] [mem=SIZE]", 2 },
	{ "host", OPT_HOST, "NAME", 0, "which of them this machine is", 2 },
	{ "key", OPT_KEY, "FILE", 0, "the cluster's key, from sfctl cluster key", 2 },
	{ NULL, 0, NULL, 0, "Both:", 3 },
	{ "accel", OPT_ACCEL, "WORD", 0, "auto, kvm or tcg [auto: tries what works]", 3 },
	{ "guest", OPT_GUEST, "DIR", 0, "folder with the guest's vmlinuz and initrd.img", 3 },
	{ "data", OPT_DATA, "DIR", 0,
	  "folder for what VMs write to their disks, with room for it [/var/tmp]", 3 },
	{ "distribution", OPT_DISTRIBUTION, "WORD", 0,
	  "how memory gets to clones on many hosts: auto, multicast, tree or unicast [auto: "
	  "multicast where the hosts hear it]", 3 },
	{ "push", OPT_PUSH, "SIZE/s|off", 0,
	  "send clones' hosts all of a guest's memory, unasked, no faster than this [off]", 3 },
	{ "compress", OPT_COMPRESS, "on|off", 0, "compress memory on its way [on]", 3 },
	{ 0 },
};

static void check(const struct up *up, struct argp_state *state)
{
	bool real = up->hosts_file || up->host || up->key_file;

	if (real && up->hosts)
		argp_error(state, "either --hosts, or --hosts-file with --host and --key");
	if (real && !(up->hosts_file && up->host && up->key_file))
		argp_error(state, "--hosts-file, --host and --key go together");
	if (real && strchr(up->host, '/'))
		argp_error(state, "\"%s\" is no name of a host", up->host);
	if (!cluster_name_valid(up->ctl->cluster))
		argp_error(state, "a cluster's name is 1 to %d of a-z, 0-9 and -", EMBED_MAX_NAME);
}

/* Checks what the daemon would refuse only when it is started. */
static const char *parse_word(const char *option, const char *words, const char *arg,
			      struct argp_state *state)
{
	size_t len = strlen(arg);

	for (const char *at = words; (at = strstr(at, arg)); at++) {
		if (len && (at == words || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
			return arg;
	}
	argp_error(state, "--%s wants one of: %s", option, words);
	return NULL;
}

static const char *parse_push(const char *arg, struct argp_state *state)
{
	char size[32];
	uint64_t bytes;
	size_t len = strlen(arg);

	if (!strcmp(arg, "off"))
		return arg;
	snprintf(size, sizeof(size), "%.*s", len > 2 ? (int)len - 2 : 0, arg);
	if (len < 3 || strcmp(arg + len - 2, "/s") || size_parse(size, &bytes) || bytes < 4096)
		argp_error(state, "--push wants off, or a rate, as in 100M/s");
	return arg;
}

static void parse_number(struct up *up, const char *arg, struct argp_state *state)
{
	char *end;
	unsigned long n = strtoul(arg, &end, 10);

	if (*end || end == arg || n < 1 || n > EMBED_MAX_HOSTS)
		argp_error(state, "--hosts wants a number from 1 to %d", EMBED_MAX_HOSTS);
	up->hosts = (unsigned)n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct up *up = state->input;

	switch (key) {
	case ARGP_KEY_INIT: state->child_inputs[0] = up->ctl; return 0;
	case 'n': parse_number(up, arg, state); return 0;
	case OPT_MEM:
		if (size_parse(arg, &up->mem_bytes) || up->mem_bytes < MIN_HOST_MEM)
			argp_error(state, "--mem-per-host wants a size of at least 128M");
		return 0;
	case OPT_ACCEL:
		if (strcmp(arg, "auto") && strcmp(arg, "kvm") && strcmp(arg, "tcg"))
			argp_error(state, "--accel wants auto, kvm or tcg");
		up->accel = arg;
		return 0;
	case OPT_GUEST: up->guest = arg; return 0;
	case OPT_DATA:
		if (!realpath(arg, up->data) || access(up->data, W_OK))
			argp_error(state, "--data %s: %s", arg, strerror(errno));
		return 0;
	case OPT_DISTRIBUTION:
		up->distribution =
			parse_word("distribution", "auto multicast tree unicast", arg, state);
		return 0;
	case OPT_PUSH: up->push = parse_push(arg, state); return 0;
	case OPT_COMPRESS: up->compress = parse_word("compress", "on off", arg, state); return 0;
	case OPT_HOSTS_FILE: up->hosts_file = arg; return 0;
	case OPT_HOST: up->host = arg; return 0;
	case OPT_KEY: up->key_file = arg; return 0;
	case ARGP_KEY_END: check(up, state); return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

/* Makes the cluster's folder, and the one above. Return: 0 or -errno. */
static int make_folder(const char *cluster)
{
	char dir[PATH_MAX];

	cluster_path(cluster, NULL, dir);
	if (mkdir(run_dir(), 0755) && errno != EEXIST)
		return -errno;
	return mkdir(dir, 0700) ? -errno : 0;
}

static int write_key(const char *path)
{
	uint8_t key[LINK_KEY_BYTES];

	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return -EIO;
	return file_write(path, key, sizeof(key), 0600);
}

static int write_hosts(const char *path, unsigned hosts)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	FILE *file = open_memstream(&text, &len);

	if (!file)
		return -errno;
	for (unsigned k = 1; k <= hosts; k++) {
		struct in_addr at = embed_address(k);
		const uint8_t *byte = (const uint8_t *)&at;

		fprintf(file, "h%u %u.%u.%u.%u\n", k, byte[0], byte[1], byte[2], byte[3]);
	}
	if (fclose(file))
		return -errno;
	return file_write(path, text, len, 0600);
}

static void show_progress(unsigned ready, unsigned count)
{
	if (!isatty(STDERR_FILENO))
		return;
	fputs("\r\033[K", stderr); /* what follows replaces it */
	if (ready < count)
		fprintf(stderr, "%u of %u hosts ready\r", ready, count);
}

static void show_nothing(unsigned ready, unsigned count)
{
	(void)ready;
	(void)count;
}

/* Prints the end of a daemon's log: what it knows more than its sentence. */
static void show_log(const char *cluster, const char *host)
{
	char path[PATH_MAX + HOST_NAME_BYTES];
	_cleanup_free_ char *text = NULL;
	unsigned lines = 0;
	size_t len, at;

	cluster_path(cluster, host, path);
	strcat(path, "/" DAEMON_LOG);
	if (io_read_file(path, LOG_MAX, &text, &len))
		return;
	for (at = len; at && lines <= LOG_LINES; at--)
		lines += text[at - 1] == '\n';
	for (char *line = strtok(text + at, "\n"); line; line = strtok(NULL, "\n"))
		fprintf(stderr, "  | %s\n", line);
}

/* Starts daemons h1 and up, or the one that `config` names, and waits for them. Return: 0 or
 * -errno. */
static int start_daemons(struct daemon_config *config, unsigned count, struct daemon_start *starts)
{
	bool embedded = !config->host;
	unsigned started = 0;
	char name[16];
	int error = 0;

	for (; started < count && !error && !up_stopped; started++) {
		if (embedded) {
			config->netns = started + 1;
			snprintf(name, sizeof(name), "h%u", config->netns);
			config->host = name;
		}
		error = daemon_start(config, &starts[started]);
	}
	if (error || up_stopped)
		return error ? error : -EINTR;
	return daemons_wait(starts, count, UP_WAIT_MS + count * UP_WAIT_MS_PER_HOST, &up_stopped,
			    embedded ? show_progress : show_nothing);
}

/* Tells why daemons did not get ready. */
static void complain_starts(const char *cluster, const struct daemon_start *starts, unsigned count,
			    int error)
{
	bool told = false;

	if (error == -EINTR)
		return complain("interrupted");
	for (unsigned i = 0; i < count; i++) {
		if (starts[i].ready || !*starts[i].why)
			continue;
		complain("%s: %s", starts[i].host, starts[i].why);
		show_log(cluster, starts[i].host);
		told = true;
	}
	for (unsigned i = 0; !told && i < count; i++) {
		if (starts[i].ready)
			continue;
		complain("%s: not ready in time", starts[i].host);
		show_log(cluster, starts[i].host);
	}
}

/* All that comes after the cluster's folder. Return: 0 or -errno after a complaint. */
static int up_embedded(const struct up *up, struct daemon_config *config)
{
	char hosts[PATH_MAX], key[PATH_MAX], why[256] = "";
	struct daemon_start starts[EMBED_MAX_HOSTS] = { 0 };
	pid_t router = 0;
	int error;

	cluster_path(up->ctl->cluster, "hosts", hosts);
	cluster_path(up->ctl->cluster, "key", key);
	error = write_hosts(hosts, up->hosts);
	if (!error)
		error = write_key(key);
	if (error) {
		complain("cannot write %s: %s", hosts, strerror(-error));
		return error;
	}
	error = embed_create(up->ctl->cluster, up->hosts, &router, why, sizeof(why));
	if (error) {
		complain("%s", *why ? why : strerror(-error));
		return error;
	}
	config->hosts_file = hosts;
	config->key_file = key;
	config->mem_bytes =
		up->mem_bytes ? up->mem_bytes : MEM_SHARE(memory_available()) / up->hosts;
	if (config->mem_bytes < MIN_HOST_MEM) {
		complain("too little memory is free for %u hosts: use fewer, or --mem-per-host",
			 up->hosts);
		return -ENOMEM;
	}
	error = start_daemons(config, up->hosts, starts);
	if (error)
		complain_starts(up->ctl->cluster, starts, up->hosts, error);
	return error;
}

static int cluster_exists(const char *cluster, int error)
{
	if (error == -EEXIST)
		complain("cluster \"%s\" is there already: end it with  sfctl cluster down%s%s",
			 cluster, strcmp(cluster, "default") ? " -C " : "",
			 strcmp(cluster, "default") ? cluster : "");
	else
		complain("cannot make the folder of cluster \"%s\" in %s: %s%s", cluster, run_dir(),
			 strerror(-error), error == -EACCES ? "; are you root?" : "");
	return EXIT_TROUBLE;
}

static int run_embedded(struct up *up, struct daemon_config *config)
{
	char mem[TEXT_BYTES];
	_cleanup_fd_ int lock = -1;
	int error = make_folder(up->ctl->cluster);

	if (error)
		return cluster_exists(up->ctl->cluster, error);
	if (cluster_lock(up->ctl->cluster, &lock) || up_embedded(up, config)) {
		cluster_take_down(up->ctl->cluster, NULL);
		return EXIT_TROUBLE;
	}
	printf("cluster \"%s\": %u host%s, %s of memory each\n", up->ctl->cluster, up->hosts,
	       up->hosts > 1 ? "s" : "", size_text(config->mem_bytes, mem));
	return 0;
}

/* True if the daemon answers, though not all of its peers do. */
static bool is_up_alone(const char *cluster, const char *host)
{
	json_t *hello = json_pack("{s:s, s:i}", "op", "hello", "version", CONTROL_VERSION);

	return !client_ask_host(cluster, host, hello, HELLO_WAIT_MS, NULL);
}

/* Starts this machine's daemon. Return: 0 or -errno after a complaint. */
static int up_real(const struct up *up, struct daemon_config *config)
{
	struct daemon_start start = { 0 };
	int error;

	config->host = up->host;
	error = start_daemons(config, 1, &start);
	if (!error) {
		printf("cluster \"%s\": host %s is up, and so are all others\n", up->ctl->cluster,
		       up->host);
	} else if (error == -ETIMEDOUT && is_up_alone(up->ctl->cluster, up->host)) {
		printf("cluster \"%s\": host %s is up; not all others answer yet (sfctl hosts)\n",
		       up->ctl->cluster, up->host);
	} else {
		complain_starts(up->ctl->cluster, &start, 1, error);
		cluster_take_down(up->ctl->cluster, up->host);
		return error;
	}
	return 0;
}

static int run_real(struct up *up, struct daemon_config *config)
{
	char dir[PATH_MAX];
	_cleanup_free_ char *hosts = realpath(up->hosts_file, NULL),
			    *key = realpath(up->key_file, NULL);
	_cleanup_fd_ int lock = -1;
	int error;

	if (!hosts || !key) {
		complain("there is no %s", hosts ? up->key_file : up->hosts_file);
		return EXIT_TROUBLE;
	}
	error = make_folder(up->ctl->cluster);
	if (error && error != -EEXIST)
		return cluster_exists(up->ctl->cluster, error);
	if (cluster_lock(up->ctl->cluster, &lock)) {
		complain("cluster \"%s\" is being started or ended right now", up->ctl->cluster);
		return EXIT_TROUBLE;
	}
	cluster_path(up->ctl->cluster, up->host, dir);
	if (!access(dir, F_OK)) {
		complain("host \"%s\" is up already, or was: sfctl cluster down --host %s",
			 up->host, up->host);
		return EXIT_TROUBLE;
	}
	config->hosts_file = hosts;
	config->key_file = key;
	if (!up_real(up, config))
		return 0;
	cluster_path(up->ctl->cluster, NULL, dir);
	rmdir(dir); /* only if no other host is there */
	rmdir(run_dir());
	return EXIT_TROUBLE;
}

int cmd_cluster_up(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.children = cluster_options,
		.doc = "Start a cluster: several hosts on this machine, or this machine as one "
		       "host."
	};
	struct up up = { .ctl = ctl, .accel = "auto" };
	char guest[PATH_MAX], absolute[PATH_MAX];
	struct daemon_config config;

	argp_parse(&argp, argc, argv, 0, NULL, &up);
	if (!up.hosts && !up.hosts_file)
		up.hosts = 4;
	paths_guest(up.guest, guest);
	if (!realpath(guest, absolute)) {
		complain(
			"there is no guest image in %s: build it (make -C guest-image), or name one"
			" with --guest",
			guest);
		return EXIT_TROUBLE;
	}
	config = (struct daemon_config){ .cluster = ctl->cluster,
					 .guest_dir = absolute,
					 .mem_bytes = up.mem_bytes,
					 .accel = up.accel,
					 .distribution = up.distribution,
					 .data_dir = *up.data ? up.data : NULL,
					 .push = up.push,
					 .compress = up.compress };
	catch_signals();
	return up.hosts ? run_embedded(&up, &config) : run_real(&up, &config);
}
