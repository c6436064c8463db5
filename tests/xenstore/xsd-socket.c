/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Serves one XenStore server on a UNIX socket, for the real libxenstore and its programs.
 *
 * usage: xsd-socket SOCKET. One client at a time; the next finds the tree that the one before left.
 * Standard input takes what the host does, a command a line, each answered by a line "ok" or
 * "error <number>":
 *
 *   write PATH VALUE    xs_host_write()
 *   give PATH VALUE     the same, as the guest's own node
 *   remove PATH         xs_host_remove()
 *   read PATH           answers the value instead of "ok"
 *   clone DOMID         goes on as the clone's server, from the saved state
 *
 * It ends at the end of its input. The first line on its output is "ready".
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/xs_server.h"

struct service {
	struct xs_server *xs;
	int listener;
	int client;	/* -1: none */
	bool deaf;	/* what is sent is meant for nobody */
};

static void send_out(void *arg, const void *bytes, size_t len)
{
	const struct service *s = arg;

	if (s->client >= 0 && !s->deaf)
		io_write_full(s->client, bytes, len);
}

static const struct xs_hooks hooks = { .send = send_out };

static int clone_server(struct service *s, unsigned domid)
{
	size_t len;
	_cleanup_free_ uint8_t *state = NULL;
	struct xs_server *xs;

	xs_hold(s->xs, true);
	state = xs_save(s->xs, &len);
	if (!state)
		return -ENOMEM;
	xs = xs_restore(domid, NULL, &hooks, s, state, len);
	if (!xs)
		return -errno;
	xs_destroy(s->xs);
	s->xs = xs;
	xs_hold(xs, false);
	return 0;
}

static int run(struct service *s, const char *verb, const char *path, const char *value)
{
	if (!strcmp(verb, "write") || !strcmp(verb, "give"))
		return xs_host_write(s->xs, path, value ? value : "", *verb == 'g');
	if (!strcmp(verb, "remove"))
		return xs_host_remove(s->xs, path);
	if (!strcmp(verb, "clone"))
		return clone_server(s, (unsigned)atoi(path));
	return -ENOSYS;
}

static void command(struct service *s, char *line)
{
	char *verb = strtok(line, " \n");
	char *path = strtok(NULL, " \n");
	char *value = strtok(NULL, "\n");
	_cleanup_free_ char *read = NULL;
	int err;

	if (!verb || !path)
		return;
	if (!strcmp(verb, "read")) {
		read = xs_host_read(s->xs, path, NULL);
		err = read ? 0 : -errno;
	} else {
		err = run(s, verb, path, value);
	}
	if (err)
		printf("error %d\n", -err);
	else
		printf("%s\n", read ? read : "ok");
	fflush(stdout);
}

/* A client is gone, and with it what was its: as the agent does when it is the last one. */
static void forget_client(struct service *s)
{
	struct xsd_sockmsg reset = { .type = XS_RESET_WATCHES };

	close(s->client);
	s->client = -1;
	s->deaf = true;
	if (!xs_at_boundary(s->xs) || xs_input(s->xs, &reset, sizeof(reset)))
		exit(1);
	s->deaf = false;
}

static void client_ready(struct service *s)
{
	char bytes[1024];
	ssize_t len = read(s->client, bytes, sizeof(bytes));

	if (len <= 0)
		forget_client(s);
	else if (xs_input(s->xs, bytes, (size_t)len))
		exit(1);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8))
		return -1;
	return fd;
}

static void serve(struct service *s)
{
	char line[8192];

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = STDIN_FILENO, .events = POLLIN },
			{ .fd = s->client >= 0 ? s->client : s->listener, .events = POLLIN },
		};

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			return;
		if (fds[0].revents) {
			if (!fgets(line, sizeof(line), stdin))
				return;
			command(s, line);
		} else if (fds[1].revents && s->client >= 0) {
			client_ready(s);
		} else if (fds[1].revents) {
			s->client = accept(s->listener, NULL, NULL);
		}
	}
}

int main(int argc, char **argv)
{
	struct service s = { .client = -1 };

	log_init("xsd-socket", LOG_LVL_WARN);
	if (argc != 2) {
		fprintf(stderr, "usage: xsd-socket SOCKET\n");
		return 2;
	}
	setvbuf(stdin, NULL, _IONBF, 0);	/* nothing is read ahead of poll() */
	s.xs = xs_create(7, NULL, &hooks, &s);
	s.listener = listen_at(argv[1]);
	if (!s.xs || s.listener < 0) {
		perror(argv[1]);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	serve(&s);
	xs_destroy(s.xs);
	return 0;
}
