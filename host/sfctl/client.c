/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds the daemon's socket, says hello, asks and waits. */
#include "host/sfctl/client.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/text.h"
#include "proto/control.h"

#define ASK_WAIT_MS 30000

/* Connects to a daemon's socket; by way of the folder's descriptor, as socket paths are short. */
static int socket_connect(const char *dir)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	_cleanup_fd_ int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (folder < 0 || fd < 0)
		return -errno;
	snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET, folder);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		return -errno;
	return steal_fd(&fd);
}

/* Connects to a host of a cluster. Return: the socket, -ESRCH if there is no such folder, -errno.
 */
static int host_connect(const char *cluster, const char *host, char *name, size_t name_bytes)
{
	_cleanup_free_ struct host_folder *folders = NULL;
	unsigned count;
	int result = cluster_folders(cluster, &folders, &count);

	if (result)
		return result;
	result = -ESRCH;
	for (unsigned i = 0; i < count && result < 0; i++) {
		if (host && strcmp(host, folders[i].name))
			continue;
		result = socket_connect(folders[i].dir);
		if (result >= 0 && name)
			snprintf(name, name_bytes, "%s", folders[i].name);
	}
	return result;
}

static void complain_unreachable(const char *cluster, const char *host, int error)
{
	if (error == -ESRCH && host)
		complain("cluster \"%s\" has no host \"%s\" on this machine", cluster, host);
	else if (error == -ESRCH)
		complain("there is no cluster \"%s\" here: start one with"
			 "  sfctl cluster up --hosts 4",
			 cluster);
	else if (error == -ECONNREFUSED || error == -ENOENT)
		complain("the daemons of cluster \"%s\" do not run: remove what is left with"
			 "  sfctl clean",
			 cluster);
	else
		complain("cannot reach the daemon of cluster \"%s\": %s", cluster,
			 strerror(-error));
}

static json_t *hello(void)
{
	return json_pack("{s:s, s:i}", "op", "hello", "version", CONTROL_VERSION);
}

static void on_hello(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		     size_t len)
{
	json_t *version = json_object_get(msg, "version");

	(void)bytes;
	(void)len;
	if (!arg)
		return;
	if (error && error != -ECONNRESET)
		complain("%s: the daemon refuses us: %s", (const char *)arg, why);
	else if (!error && json_integer_value(version) != CONTROL_VERSION)
		complain(
			"%s: the daemon speaks version %d, this sfctl %d: install the same of both",
			(const char *)arg, (int)json_integer_value(version), CONTROL_VERSION);
}

struct link *client_connect(struct event_base *base, const char *cluster, const char *host,
			    const struct link_handler *handler, void *arg, char name[],
			    size_t name_bytes)
{
	int fd = host_connect(cluster, host, name, name_bytes);
	struct link *link;

	if (fd < 0) {
		complain_unreachable(cluster, host, fd);
		return NULL;
	}
	link = link_from_fd(base, fd, handler, arg);
	if (!link) {
		complain("no memory");
		close(fd);
		return NULL;
	}
	link_call(link, hello(), NULL, 0, on_hello, (void *)cluster);
	return link;
}

/* A question under way. */
struct question {
	struct event_base *base;
	struct link *link;
	json_t *answer;
	int error;
	char why[512];
};

static void question_end(struct question *q, int error, const char *why)
{
	q->error = error;
	snprintf(q->why, sizeof(q->why), "%s", why ? why : "");
	event_base_loopbreak(q->base);
}

static void on_answer(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	struct question *q = arg;

	(void)bytes;
	(void)len;
	if (!error)
		q->answer = json_incref(msg);
	question_end(q, error, error == -ECONNRESET ? "the daemon went away" : why);
}

static void on_down(void *arg, struct link *link, int error, const char *why)
{
	struct question *q = arg;

	(void)link;
	q->link = NULL;
	question_end(q, error ? error : -ECONNRESET, why);
}

/* Sends `request` over `fd`, taking both, and waits. `cluster`: for complaints; NULL: none. */
static void question_ask(struct question *q, int fd, const char *cluster, json_t *request,
			 unsigned wait_ms)
{
	static const struct link_handler handler = { .down = on_down };
	struct timeval limit = { wait_ms / 1000, wait_ms % 1000 * 1000 };

	q->error = -ENOMEM;
	snprintf(q->why, sizeof(q->why), "no memory");
	q->base = event_base_new();
	q->link = q->base ? link_from_fd(q->base, fd, &handler, q) : NULL;
	if (!q->link) {
		close(fd);
		json_decref(request);
		return;
	}
	q->error = -ETIMEDOUT;
	snprintf(q->why, sizeof(q->why), "the daemon does not answer");
	link_call(q->link, hello(), NULL, 0, on_hello, (void *)cluster);
	link_call(q->link, request, NULL, 0, on_answer, q);
	event_base_loopexit(q->base, &limit);
	event_base_dispatch(q->base);
}

static void question_fini(struct question *q)
{
	link_close(q->link);
	if (q->base)
		event_base_free(q->base);
}

/* The host's name in a VM's ID: what stands before its last dot. */
static void host_of(const char *id, char host[HOST_NAME_BYTES])
{
	size_t len = strcspn(id, "/");

	while (len && id[len] != '.')
		len--;
	snprintf(host, HOST_NAME_BYTES, "%.*s", (int)len, id);
}

json_t *client_ask(const char *cluster, const char *id, json_t *request)
{
	struct question q = { 0 };
	char host[HOST_NAME_BYTES] = "";
	int fd = -ESRCH;

	if (id)
		host_of(id, host);
	if (*host)
		fd = host_connect(cluster, host, NULL, 0);
	if (fd < 0)
		fd = host_connect(cluster, NULL, NULL, 0);

	if (fd < 0) {
		complain_unreachable(cluster, NULL, fd);
		json_decref(request);
		return NULL;
	}
	question_ask(&q, fd, cluster, request, ASK_WAIT_MS);
	question_fini(&q);
	if (q.error)
		complain("%s", q.why);
	return q.answer;
}

int client_ask_host(const char *cluster, const char *host, json_t *request, unsigned wait_ms,
		    json_t **answer)
{
	struct question q = { 0 };
	int fd = host_connect(cluster, host, NULL, 0);

	if (fd < 0) {
		json_decref(request);
		return fd;
	}
	question_ask(&q, fd, NULL, request, wait_ms);
	question_fini(&q);
	if (answer)
		*answer = q.answer;
	else
		json_decref(q.answer);
	return q.error;
}
