/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tests' half inside the guest: its first process, which runs shell commands that come through
 * a port, and the programs (`t NAME …`) that these need.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

/* ---- which of all ---- */

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} programs[] = {
	{ "where", run_where },	    { "hold", run_hold },   { "prepare", run_prepare },
	{ "misuse", run_misuse },   { "load", run_load },   { "hoard", run_hoard },
	{ "churn", run_churn },	    { "flood", run_flood }, { "forge", run_forge },
	{ "sockets", run_sockets }, { "stream", run_stream },
};

static int run_program(int argc, char **argv)
{
	for (size_t i = 0; argc > 0 && i < sizeof(programs) / sizeof(programs[0]); i++) {
		if (!strcmp(programs[i].name, argv[0]))
			return programs[i].run(argc, argv);
	}
	fprintf(stderr, "t: no such program\n");
	return 2;
}

/* ---- the first process ---- */

static void mount_all(void)
{
	static const char *const types[][2] = {
		{ "devtmpfs", "/dev" },
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "tmpfs", "/tmp" },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		mount(types[i][0], types[i][1], types[i][0], 0, NULL);
}

static void load_modules(void)
{
	FILE *list = fopen("/etc/snowflock/modules", "re");
	char path[256];

	while (list && fgets(path, sizeof(path), list)) {
		int fd;

		path[strcspn(path, "\n")] = 0;
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			perror(path);
		close(fd);
	}
}

/* Return: the port to the host. */
static int open_port(void)
{
	char path[300], name[16] = "";

	for (int tries = 0; tries < 1000; tries++) {
		DIR *ports = opendir("/sys/class/virtio-ports");
		struct dirent *entry;

		while (ports && (entry = readdir(ports))) {
			FILE *file;

			snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
				 entry->d_name);
			file = fopen(path, "re");
			if (!file)
				continue;
			if (!fgets(name, sizeof(name), file))
				*name = 0;
			fclose(file);
			if (strcmp(name, "test\n"))
				continue;
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			closedir(ports);
			return open(path, O_RDWR | O_CLOEXEC);
		}
		if (ports)
			closedir(ports);
		usleep(10000);
	}
	fail("no port");
	return -1;
}

/* Runs one line, and buries the orphans of earlier ones. Return: its status. */
static int run_line(const char *line, int port)
{
	pid_t pid = fork(), ended;
	int status;

	if (!pid) {
		dup2(port, STDOUT_FILENO);
		dup2(port, STDERR_FILENO);
		execl("/bin/sh", "sh", "-c", line, NULL);
		_exit(127);
	}
	do {
		ended = waitpid(-1, &status, 0);
	} while (ended != pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void serve(void)
{
	static char line[65536];
	int port = open_port(), status = 0;
	size_t at = 0;

	for (;;) {
		dprintf(port, "\n== %d\n", status);
		for (at = 0; at + 1 < sizeof(line); at++) {
			while (read(port, line + at, 1) != 1)
				usleep(10000);
			if (line[at] == '\n')
				break;
		}
		line[at] = 0;
		status = run_line(line, port);
	}
}

int main(int argc, char **argv)
{
	if (getpid() != 1)
		return run_program(argc - 1, argv + 1);
	mount_all();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	load_modules();
	serve();
}
