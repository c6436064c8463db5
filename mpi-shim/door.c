/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The way to the keeper.
 *
 * The keeper's name is its lock: who cannot have the name finds that another keeper was faster. A
 * keeper that is about to end hangs up before its HELLO; then another one is started. So a few tries
 * are made; none waits for anything but a process's start or a peer's answer.
 */
#define _GNU_SOURCE
#include "door.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "wire.h"

#define TRIES		 50
#define START_TIMEOUT_MS 60000 /* for a keeper to say that it listens: libsf may have to wait */
#define HELLO_TIMEOUT_S	 300   /* a keeper that waits for a ticket answers late */
#define READY_FD	 3     /* the keeper's end of the pipe on which it says how it went */

extern char **environ;

/* Where the shim's programs may be, seen from the folder of one of them or of libsfmpi. */
static const char *const from_here[] = { ".", "../libexec/snowflock", "..", "../../bin" };

/* Return: in `folder`, that of the program or library that this is in; NULL if it cannot be told. */
static char *own_folder(char folder[PATH_MAX])
{
	struct link_map *map;
	Dl_info info;
	char *slash;

	if (!dladdr1(from_here, &info, (void **)&map, RTLD_DL_LINKMAP) ||
	    !realpath(*map->l_name ? map->l_name : "/proc/self/exe", folder))
		return NULL;
	slash = strrchr(folder, '/');
	if (slash)
		*slash = 0;
	return slash ? folder : NULL;
}

/* Return: whether there is a file `name` in that folder, and its path fits. */
static bool is_in(const char *folder, const char *there, const char *name, char *path, size_t len)
{
	int used = snprintf(path, len, "%s/%s/%s", folder, there, name);

	return used > 0 && (size_t)used < len && !access(path, F_OK);
}

char *door_program(const char *name, char *path, size_t len)
{
	const char *folder = getenv("SF_MPI_LIBEXEC");
	char own[PATH_MAX];
	int used;

	if ((!folder || !*folder) && own_folder(own)) {
		for (unsigned i = 0; i < ARRAY_SIZE(from_here); i++) {
			if (is_in(own, from_here[i], name, path, len))
				return path;
		}
	}
	used = snprintf(path, len, "%s/%s", folder && *folder ? folder : PKGLIBEXECDIR, name);
	return used > 0 && (size_t)used < len ? path : NULL;
}

/* ---- connecting ---- */

/* Says HELLO and awaits the answer. Return: 0; -EPIPE if the keeper hung up. */
static int say_hello(int sock, enum mpi_role role, const uint8_t token[MPI_TOKEN_BYTES])
{
	struct mpi_hello hello = { .magic = MPI_MAGIC, .version = MPI_VERSION, .role = role };
	struct timeval limit = { .tv_sec = HELLO_TIMEOUT_S }, none = { 0 };
	struct wire_payload payload = { 0 };
	_cleanup_free_ uint8_t *answer = NULL;
	struct mpi_frame frame;
	int rc;

	if (token)
		memcpy(hello.token, token, MPI_TOKEN_BYTES);
	wire_add(&payload, &hello, sizeof(hello));
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	rc = wire_send(sock, MPI_HELLO, 0, &payload);
	wire_free(&payload);
	if (!rc)
		rc = wire_receive(sock, &frame, &answer);
	if (!rc && frame.type != MPI_HELLO)
		rc = -EPROTO;
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

/* Reads MPI_ENV's "ADDRESS:PORT/TOKEN". Return: 0 or -EINVAL. */
static int parse_way(const char *text, struct sockaddr_in *to, uint8_t token[MPI_TOKEN_BYTES])
{
	char address[INET_ADDRSTRLEN];
	unsigned port;
	int used = 0;

	if (sscanf(text, "%15[0-9.]:%5u/%n", address, &port, &used) != 2 || !used || port > 65535 ||
	    strlen(text + used) != MPI_TOKEN_BYTES * 2)
		return -EINVAL;
	*to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	if (inet_pton(AF_INET, address, &to->sin_addr) != 1)
		return -EINVAL;
	for (unsigned i = 0; i < MPI_TOKEN_BYTES; i++) {
		if (sscanf(text + used + i * 2, "%2hhx", &token[i]) != 1)
			return -EINVAL;
	}
	return 0;
}

/* Return: a connection by MPI_ENV, or -errno; -EPERM if the token is not the keeper's. */
static int open_tcp(const char *way, enum mpi_role role)
{
	_cleanup_fd_ int sock = -1;
	uint8_t token[MPI_TOKEN_BYTES];
	struct sockaddr_in to;
	int rc = parse_way(way, &to, token);

	if (rc)
		return rc;
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof(to)))
		return -errno;
	rc = say_hello(sock, role, token);
	if (rc)
		return rc == -EPIPE ? -EPERM : rc;
	return steal_fd(&sock);
}

/* Return: a connection to this user's keeper; -ECONNREFUSED, -EPIPE if there is none (any more). */
static int open_unix(enum mpi_role role)
{
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int rc, name_len;

	if (sock < 0)
		return -errno;
	name_len = snprintf(to.sun_path + 1, sizeof(to.sun_path) - 1, MPI_SOCKET, getuid());
	if (connect(sock, (struct sockaddr *)&to,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)name_len)))
		return -errno;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return -errno;
	if (peer.uid && peer.uid != getuid())
		return -EPERM;
	rc = say_hello(sock, role, NULL);
	return rc ? rc : steal_fd(&sock);
}

/* ---- starting a keeper ---- */

/* This process's environment without what is preloaded into it. Return: an array to free(). */
static char **keeper_environment(void)
{
	size_t count = 0, used = 0;
	char **copy;

	while (environ && environ[count])
		count++;
	copy = calloc(count + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < count; i++) {
		if (strncmp(environ[i], "LD_PRELOAD=", 11))
			copy[used++] = environ[i];
	}
	return copy;
}

/* Runs `path` with `ready` as READY_FD, and no terminal. Return: 0 or -errno, and *pid. */
static int spawn_keeper(const char *path, int ready, pid_t *pid)
{
	_cleanup_free_ char **environment = keeper_environment();
	char *const argv[] = { (char *)"sf-mpikeeper", (char *)"--ready-fd=3", NULL };
	posix_spawn_file_actions_t actions;
	int rc;

	if (!environment || posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	/* dup2 first: the descriptor may be one of 0 to 2 in a program that closed these */
	rc = posix_spawn_file_actions_adddup2(&actions, ready, READY_FD);
	for (int fd = 0; !rc && fd < 3; fd++) {
		if (fd < STDERR_FILENO || !getenv("SF_LOG"))
			rc = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
	}
	if (!rc)
		rc = posix_spawn(pid, path, &actions, NULL, argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

/*
 * Starts a keeper and waits until it listens, or says why it does not; it goes on in a process of its
 * own. Return: 0; -EADDRINUSE another one does; -errno.
 */
static int start_keeper(void)
{
	_cleanup_fd_ int ready_r = -1, ready_w = -1;
	struct pollfd poll_ready;
	char path[PATH_MAX];
	int pipe_fds[2], rc;
	int32_t error;
	pid_t pid;

	if (!door_program("sf-mpikeeper", path, sizeof(path)))
		return -ENAMETOOLONG;
	if (pipe2(pipe_fds, O_CLOEXEC))
		return -errno;
	ready_r = pipe_fds[0];
	ready_w = pipe_fds[1];
	rc = spawn_keeper(path, ready_w, &pid);
	if (rc)
		return rc;
	close(steal_fd(&ready_w));
	poll_ready = (struct pollfd){ .fd = ready_r, .events = POLLIN };
	do {
		rc = poll(&poll_ready, 1, START_TIMEOUT_MS);
	} while (rc < 0 && errno == EINTR);
	if (rc > 0)
		rc = io_read_full(ready_r, &error, sizeof(error)) ? -EIO : -error;
	else
		rc = rc ? -errno : -ETIMEDOUT;
	/* the first process ends as soon as its child has the name; a SIGCHLD handler may be faster */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return rc;
}

int door_open(enum mpi_role role)
{
	const char *way = getenv(MPI_ENV);
	int sock = -1;

	if (way && *way)
		return role == MPI_ASKER ? open_tcp(way, role) : -ENOENT;
	for (unsigned i = 0; i < TRIES; i++) {
		int rc;

		sock = open_unix(role);
		if (sock != -ECONNREFUSED && sock != -EPIPE)
			return sock;
		if (role != MPI_ASKER)
			return -ENOENT;
		rc = start_keeper();
		if (rc && rc != -EADDRINUSE)
			return rc;
	}
	return sock;
}

/* ---- asking ---- */

/* Takes the one string that is behind `skip` bytes. Return: a copy; NULL with errno EPROTO, ENOMEM. */
static char *take_text(const struct mpi_frame *frame, const uint8_t *bytes, size_t skip)
{
	const char *text = (const char *)bytes + skip;

	if (frame->length <= skip || strlen(text) != frame->length - skip - 1) {
		errno = EPROTO;
		return NULL;
	}
	return strdup(text);
}

static int take_grant(const struct mpi_frame *frame, const uint8_t *bytes, uint32_t *group,
		      struct mpi_grant *grant, char **hosts)
{
	*hosts = take_text(frame, bytes, sizeof(*grant));
	if (!*hosts)
		return -errno;
	memcpy(grant, bytes, sizeof(*grant));
	*group = frame->number;
	return 0;
}

static int take_refusal(const struct mpi_frame *frame, const uint8_t *bytes, char **sentence)
{
	struct mpi_errno_of refusal;

	*sentence = take_text(frame, bytes, sizeof(refusal));
	if (!*sentence)
		return -errno;
	memcpy(&refusal, bytes, sizeof(refusal));
	return refusal.error > 0 ? -refusal.error : -EPROTO;
}

/* Awaits the answer to WANT. Return: as door_want(), the sentence only if the keeper had one. */
static int await_answer(int sock, uint32_t *group, struct mpi_grant *grant, char **hosts,
			char **sentence)
{
	for (;;) {
		_cleanup_free_ uint8_t *bytes = NULL;
		struct mpi_frame frame;
		int rc = wire_receive(sock, &frame, &bytes);

		if (rc)
			return rc;
		switch (frame.type) {
		case MPI_GRANT:
			return take_grant(&frame, bytes, group, grant, hosts);
		case MPI_REFUSED:
			return take_refusal(&frame, bytes, sentence);
		case MPI_LOST:
		case MPI_ENDED:
			break;
		default:
			return -EPROTO;
		}
	}
}

int door_want(int sock, const struct mpi_want *want, uint32_t *group, struct mpi_grant *grant,
	      char **hosts, char **sentence)
{
	struct wire_payload payload = { 0 };
	int rc;

	*hosts = *sentence = NULL;
	wire_add(&payload, want, sizeof(*want));
	rc = wire_send(sock, MPI_WANT, 0, &payload);
	wire_free(&payload);
	if (!rc)
		rc = await_answer(sock, group, grant, hosts, sentence);
	if (rc && !*sentence &&
	    asprintf(sentence, "the keeper of the clones does not answer: %s",
		     rc == -EPIPE ? "it has ended" : strerror(-rc)) < 0)
		*sentence = NULL;
	return rc;
}
