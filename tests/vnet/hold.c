/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the shell tests: `hold CLUSTER` makes a cluster of two hosts with a segment and ports on it,
 * says "ready PID-OF-ROUTER" and holds it until it is killed; `hold CLUSTER clean` cleans in its
 * hosts; `hold CLUSTER destroy` takes the cluster down. `hold - clean` cleans where it is.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "host/vnet/embed.h"
#include "host/vnet/vnet.h"

#define HOSTS 2
#define PORTS 3

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "hold: %s: %s\n", what, why);
	return EXIT_FAILURE;
}

static int hold(const char *cluster)
{
	struct vnet_config config = { .vni = 0xbeef, .prefix = 24, .port = 4789 };
	struct vnet_segment *segment;
	char why[256] = "";
	pid_t router;
	int fd;

	config.base.s_addr = inet_addr("10.91.0.1");
	config.gateway.s_addr = inet_addr("10.91.0.254");
	if (embed_create(cluster, HOSTS, &router, why, sizeof(why)))
		return fail("cluster", why);
	for (unsigned k = 1; k <= HOSTS; k++) {
		config.underlay = embed_address(k);
		if (embed_enter(cluster, k) ||
		    vnet_segment_create(&config, &segment, why, sizeof(why)))
			return fail("segment", why);
		for (unsigned id = 0; id < PORTS; id++) {
			if (vnet_port_open(segment, id, &fd, why, sizeof(why)))
				return fail("port", why);
		}
	}
	printf("ready %d\n", (int)router);
	fflush(stdout);
	pause();
	return EXIT_FAILURE;
}

static int clean(const char *cluster)
{
	unsigned removed, all = 0;
	int error;

	for (unsigned k = 1; k <= HOSTS; k++) {
		error = strcmp(cluster, "-") ? embed_enter(cluster, k) : 0;
		if (!error)
			error = vnet_clean(&removed);
		if (error)
			return fail("clean", strerror(-error));
		all += removed;
	}
	printf("removed %u\n", all);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	log_init("hold", LOG_LVL_WARN);
	if (argc == 2)
		return hold(argv[1]);
	if (argc == 3 && !strcmp(argv[2], "clean"))
		return clean(argv[1]);
	if (argc == 3 && !strcmp(argv[2], "destroy")) {
		printf("destroyed %d\n", embed_destroy(argv[1]));
		return EXIT_SUCCESS;
	}
	return fail("usage", "hold CLUSTER [clean|destroy]");
}
