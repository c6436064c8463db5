/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Embedded hosts: made, reachable, with a way out, and gone without a trace. */
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vnet/embed.h"
#include "tests/vnet/frames.h"
#include "tests/vnet/world.h"

#define HOSTS 4

/* A TCP socket that listens here; *port gets where. */
static int listen_tcp(uint16_t *port)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	socklen_t len = sizeof(any);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, len) < 0 || listen(fd, 4) < 0 ||
	    getsockname(fd, (struct sockaddr *)&any, &len) < 0)
		return -1;
	*port = ntohs(any.sin_port);
	return fd;
}

/* A TCP connection from here. Return: descriptor or -1. */
static int connect_tcp(struct in_addr address, uint16_t port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_addr = address, .sin_port = htons(port),
	};
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = 3 };

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -1;
	return steal_fd(&fd);
}

static void hosts_reach_each_other(void)
{
	_cleanup_fd_ int server = -1, client = -1, accepted = -1;
	struct sockaddr_in from = { 0 };
	socklen_t len = sizeof(from);
	uint16_t port;

	CU_ASSERT_TRUE_FATAL(world_enter(HOSTS));
	server = listen_tcp(&port);
	CU_ASSERT_TRUE_FATAL(world_enter(1));
	client = connect_tcp(embed_address(HOSTS), port);
	CU_ASSERT_TRUE_FATAL(client >= 0);
	accepted = accept(server, (struct sockaddr *)&from, &len);
	CU_ASSERT_EQUAL(from.sin_addr.s_addr, embed_address(1).s_addr);
	world_leave();
}

static void hosts_reach_the_outside(void)
{
	_cleanup_fd_ int server = -1, client = -1, accepted = -1;
	char got[100000] = { 0 }, sent[100000];
	uint16_t port;

	memset(sent, 'x', sizeof(sent));
	server = listen_tcp(&port);
	CU_ASSERT_TRUE_FATAL(world_enter(2));
	client = connect_tcp(ip4(WORLD_MACHINE), port);
	CU_ASSERT_TRUE_FATAL(client >= 0);
	accepted = accept(server, NULL, NULL);
	CU_ASSERT_EQUAL(io_write_full(client, sent, sizeof(sent)), 0);
	CU_ASSERT_EQUAL(io_read_full(accepted, got, sizeof(got)), 0);
	CU_ASSERT_EQUAL(memcmp(got, sent, sizeof(got)), 0);
	world_leave();
}

static void loopback_of_the_machine_is_closed(void)
{
	_cleanup_fd_ int server = -1, client = -1;
	uint16_t port;

	server = listen_tcp(&port);
	CU_ASSERT_TRUE_FATAL(world_enter(1));
	client = connect_tcp(ip4("10.0.2.2"), port);
	CU_ASSERT_EQUAL(client, -1);
	world_leave();
}

static const char *wanted;

static void note_cluster(const char *cluster, void *found)
{
	*(int *)found += !strcmp(cluster, wanted);
}

static void same_name_twice_is_refused(void)
{
	char why[256] = "";
	int found = 0;
	pid_t router;

	CU_ASSERT_EQUAL(embed_create(wanted, 1, &router, why, sizeof(why)), -EEXIST);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, wanted));
	CU_ASSERT_EQUAL(embed_list(note_cluster, &found), 0);
	CU_ASSERT_EQUAL(found, 1);
	CU_ASSERT_TRUE(world_enter(HOSTS));
	world_leave();
}

static void nonsense_is_refused(void)
{
	static const char *const names[] = {
		"", "A", "a/b", "a b", "..", "0123456789012345678901234567890123456789x",
	};
	char why[256];
	pid_t router;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CU_ASSERT_EQUAL(embed_create(names[i], 1, &router, why, sizeof(why)), -EINVAL);
		CU_ASSERT_EQUAL(embed_destroy(names[i]), 0);
	}
	CU_ASSERT_EQUAL(embed_create("fine", 0, &router, why, sizeof(why)), -EINVAL);
	CU_ASSERT_EQUAL(embed_create("fine", EMBED_MAX_HOSTS + 1, &router, why, sizeof(why)),
			-EINVAL);
	CU_ASSERT_EQUAL(embed_enter(wanted, HOSTS + 1), -ENOENT);
	CU_ASSERT_EQUAL(embed_enter("nobody", 1), -ENOENT);
}

static void clusters_with_similar_names_are_apart(void)
{
	char similar[EMBED_MAX_NAME + 1], why[256] = "";
	int found = 0;
	pid_t router;

	snprintf(similar, sizeof(similar), "%s-h1", wanted);
	CU_ASSERT_EQUAL_FATAL(embed_create(similar, 1, &router, why, sizeof(why)), 0);
	CU_ASSERT_EQUAL(embed_destroy(similar), 2);
	CU_ASSERT_EQUAL(embed_list(note_cluster, &found), 0);
	CU_ASSERT_EQUAL(found, 1);
	CU_ASSERT_TRUE(world_enter(1));
	world_leave();
}

/* Makes a cluster with a slirp4netns of the test's own in PATH. Return: what embed_create() does. */
static int create_with_router(const char *script, pid_t *router, char *why, size_t why_bytes)
{
	_cleanup_free_ char *path = strdup(getenv("PATH"));
	char folder[] = "/tmp/vnet-XXXXXX", program[64];
	int result, fd = -1;

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	snprintf(program, sizeof(program), "%s/slirp4netns", folder);
	if (script) {
		fd = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
		CU_ASSERT_EQUAL(io_write_full(fd, script, strlen(script)), 0);
		close(fd);
	}
	setenv("PATH", folder, 1);
	result = embed_create("test-router", 1, router, why, why_bytes);
	setenv("PATH", path, 1);
	unlink(program);
	rmdir(folder);
	return result;
}

static void without_slirp_there_is_no_way_out(void)
{
	char why[256] = "";
	pid_t router = -1;

	CU_ASSERT_EQUAL(create_with_router(NULL, &router, why, sizeof(why)), 0);
	CU_ASSERT_EQUAL(router, 0);
	CU_ASSERT_EQUAL(embed_destroy("test-router"), 2);
}

static void failing_slirp_is_reported(void)
{
	static const char script[] = "#!/bin/sh\necho words >&2\necho the reason >&2\nexit 1\n";
	char why[256] = "";
	pid_t router;

	CU_ASSERT_EQUAL(create_with_router(script, &router, why, sizeof(why)), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "(the reason)"));
	CU_ASSERT_EQUAL(embed_destroy("test-router"), 0);
}

static pid_t first_router;

/* True while the process has not ended; one that nobody has waited for yet has. */
static bool is_running(pid_t pid)
{
	_cleanup_free_ char *cmdline = NULL;
	char path[64];
	size_t len = 0;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	return !io_read_file(path, 4096, &cmdline, &len) && len > 0;
}

static void nothing_is_left(void)
{
	int found = 0;

	CU_ASSERT_TRUE(first_router > 0);
	CU_ASSERT_TRUE(is_running(first_router));
	CU_ASSERT_EQUAL(embed_destroy(wanted), HOSTS + 1);
	CU_ASSERT_FALSE(is_running(first_router));
	CU_ASSERT_EQUAL(embed_list(note_cluster, &found), 0);
	CU_ASSERT_EQUAL(found, 0);
	CU_ASSERT_FALSE(world_enter(1));
	CU_ASSERT_EQUAL(embed_destroy(wanted), 0);
	CU_ASSERT_EQUAL(world_interfaces("h"), 0);
	CU_ASSERT_TRUE(world_no_tables());
}

int main(void)
{
	static const struct world_test tests[] = {
		{ "hosts reach each other", hosts_reach_each_other },
		{ "hosts reach the outside", hosts_reach_the_outside },
		{ "the machine's loopback is closed to them", loopback_of_the_machine_is_closed },
		{ "the same name twice is refused", same_name_twice_is_refused },
		{ "nonsense is refused", nonsense_is_refused },
		{ "clusters with similar names are apart", clusters_with_similar_names_are_apart },
		{ "without slirp4netns there is no way out", without_slirp_there_is_no_way_out },
		{ "a failing slirp4netns is reported", failing_slirp_is_reported },
		{ "nothing is left", nothing_is_left },
	};
	uint64_t start_ns;
	int result;

	world_start();
	start_ns = io_now_ns();
	wanted = world_cluster(HOSTS, &first_router);
	printf("%d hosts in %.0f ms\n", HOSTS, (double)(io_now_ns() - start_ns) / 1e6);
	result = world_run("embed", tests, ARRAY_SIZE(tests));
	world_end();
	return result;
}
