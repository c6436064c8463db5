/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measures how long MPI_Comm_spawn() of some workers takes until all have answered.
 *
 *	count-spawn WORKERS [AGAIN]
 *
 * Prints "spawn MS MS": until MPI_Comm_spawn() was back, and until the last worker's answer came. With
 * AGAIN, these workers stay, and it spawns as many so often on the very hosts where they are, which
 * it names to MPI itself by the info key "host"; these lines begin with "there".
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mpi.h>

#define MAX_WORKERS 64
#define ADDRESS_BYTES INET_ADDRSTRLEN

/* The first address of this machine that others can reach; "127.0.0.1" if there is none. */
static void own_address(char address[ADDRESS_BYTES])
{
	struct ifaddrs *all = NULL;

	strcpy(address, "127.0.0.1");
	if (getifaddrs(&all))
		return;
	for (struct ifaddrs *at = all; at; at = at->ifa_next) {
		const struct sockaddr_in *in = (const void *)at->ifa_addr;

		if (!in || in->sin_family != AF_INET || at->ifa_flags & IFF_LOOPBACK)
			continue;
		inet_ntop(AF_INET, &in->sin_addr, address, ADDRESS_BYTES);
		break;
	}
	freeifaddrs(all);
}

/* Says where it is, and stays until the manager disconnects. */
static void work(MPI_Comm *manager)
{
	char address[ADDRESS_BYTES];

	own_address(address);
	MPI_Send(address, ADDRESS_BYTES, MPI_CHAR, 0, 0, *manager);
	MPI_Comm_disconnect(manager);
}

/* Spawns, takes the answers, and prints how long it took. */
static MPI_Comm spawn(char *program, int count, MPI_Info info, const char *label,
		      char addresses[][ADDRESS_BYTES])
{
	double start = MPI_Wtime(), back;
	MPI_Comm workers;

	MPI_Comm_spawn(program, MPI_ARGV_NULL, count, info, 0, MPI_COMM_SELF, &workers,
		       MPI_ERRCODES_IGNORE);
	back = MPI_Wtime();
	for (int i = 0; i < count; i++)
		MPI_Recv(addresses[i], ADDRESS_BYTES, MPI_CHAR, i, 0, workers, MPI_STATUS_IGNORE);
	printf("%s %.1f %.1f\n", label, (back - start) * 1000, (MPI_Wtime() - start) * 1000);
	fflush(stdout);
	return workers;
}

/* The addresses as MPICH's info key "host" wants them, one process on each: "A:1,B:1". */
static MPI_Info hosts_info(int count, char addresses[][ADDRESS_BYTES])
{
	char hosts[MAX_WORKERS * (ADDRESS_BYTES + 4)] = "";
	MPI_Info info;

	for (int i = 0; i < count; i++)
		sprintf(hosts + strlen(hosts), "%s%s:1", i ? "," : "", addresses[i]);
	MPI_Info_create(&info);
	MPI_Info_set(info, "host", hosts);
	return info;
}

static void measure(char *program, int count, int again)
{
	static char addresses[MAX_WORKERS][ADDRESS_BYTES], ignored[MAX_WORKERS][ADDRESS_BYTES];
	MPI_Comm workers = spawn(program, count, MPI_INFO_NULL, "spawn", addresses);
	MPI_Info info = hosts_info(count, addresses);

	for (int i = 0; i < again; i++) {
		MPI_Comm more = spawn(program, count, info, "there", ignored);

		MPI_Comm_disconnect(&more);
	}
	MPI_Info_free(&info);
	MPI_Comm_disconnect(&workers);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0, error = 0;
	MPI_Comm parent;

	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&parent);
	if (parent != MPI_COMM_NULL) {
		work(&parent);
	} else if (count > 0 && count <= MAX_WORKERS) {
		measure(argv[0], count, argc > 2 ? atoi(argv[2]) : 0);
	} else {
		fprintf(stderr, "usage: count-spawn WORKERS [AGAIN]\n");
		error = 2;
	}
	MPI_Finalize();
	return error;
}
