/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: a parent with busy connections is cloned again and again.
 *
 *   guest-network ROUNDS CLONES
 *
 * A first clone stays and is the other end: it echoes TCP, and hears UDP and pings. The parent has
 * a TCP stream to it that is never still and whose bytes are checked, and floods it with pings and
 * datagrams, while it makes ROUNDS times CLONES more. Each of these looks whether what it inherited
 * from the parent's network has ended, whether what is its own goes on, and who it is.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sf.h>

#define ECHO_PORT 5000
#define SINK_PORT 5001
#define LISTEN_PORT 6000
#define AT_ONCE_MS 2000	/* under emulation, on a busy machine; a connection that hangs takes minutes */

/* What the parent has and the clones inherit. */
static struct {
	char parent[SF_ADDRESS_BYTES], peer[SF_ADDRESS_BYTES];
	int stream, listener;
	int local[2];		/* TCP through the loopback */
	int pair[2];		/* UNIX */
	volatile uint64_t echoed;	/* bytes of the stream that came back as they went */
	volatile int stream_error;	/* errno that ended it, -1: wrong bytes */
	volatile bool calm;	/* enough of the flood: this is a clone, and back from its call */
} net;

static struct sockaddr_in address_of(const char *text, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, text, &in.sin_addr);
	return in;
}

static int listen_at(uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 64))
		perror("listen");
	return fd;
}

/* Tries for some seconds: who is asked may be slower than we are. Return: a socket or -1. */
static int connect_to(const char *address, uint16_t port)
{
	struct sockaddr_in to = address_of(address, port);
	struct timeval limit = { 10, 0 };

	for (int tries = 0; tries < 50; tries++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		if (!connect(fd, (struct sockaddr *)&to, sizeof(to)))
			return fd;
		close(fd);
		usleep(100000);
	}
	return -1;
}

/* ---- the other end ---- */

static void *echo_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char bytes[4096];
	ssize_t got;

	while ((got = read(fd, bytes, sizeof(bytes))) > 0) {
		if (write(fd, bytes, (size_t)got) != got)
			break;
	}
	close(fd);
	return NULL;
}

static void be_peer(void)
{
	int fd = listen_at(ECHO_PORT);
	pthread_t thread;

	for (;;) {
		int one = accept(fd, NULL, NULL);

		if (one >= 0)
			pthread_create(&thread, NULL, echo_one, (void *)(intptr_t)one);
	}
}

/* ---- the parent's load ---- */

/* Sends numbers, and wants them back in order. */
static void *keep_streaming(void *arg)
{
	uint64_t out[64], in[64], next = 1;

	(void)arg;
	while (!net.stream_error) {
		size_t got = 0;

		for (size_t i = 0; i < 64; i++)
			out[i] = next * 0x9e3779b97f4a7c15ull + i;
		if (send(net.stream, out, sizeof(out), MSG_NOSIGNAL) != sizeof(out)) {
			net.stream_error = errno ? errno : EPIPE;
			break;
		}
		while (got < sizeof(in)) {
			ssize_t n = recv(net.stream, (char *)in + got, sizeof(in) - got, 0);

			if (n <= 0) {
				net.stream_error = n ? errno : EPIPE;
				return NULL;
			}
			got += (size_t)n;
		}
		if (memcmp(in, out, sizeof(in)))
			net.stream_error = -1;
		net.echoed += sizeof(in);
		next++;
	}
	return NULL;
}

static void calm_down(void)
{
	net.calm = true;
}

/* Pings and datagrams, as fast as it goes. */
static void *keep_flooding(void *arg)
{
	struct sockaddr_in ping_to = address_of(net.peer, 0), sink = address_of(net.peer, SINK_PORT);
	int raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), udp = socket(AF_INET, SOCK_DGRAM, 0);
	struct icmphdr ping = { .type = ICMP_ECHO };
	char datagram[1200] = { 0 };

	(void)arg;
	ping.checksum = (uint16_t)~htons(ICMP_ECHO << 8);
	connect(udp, (struct sockaddr *)&sink, sizeof(sink));
	while (!net.calm) {
		for (int i = 0; i < 16; i++) {
			sendto(raw, &ping, sizeof(ping), MSG_DONTWAIT, (struct sockaddr *)&ping_to,
			       sizeof(ping_to));
			send(udp, datagram, sizeof(datagram), MSG_DONTWAIT);
		}
		usleep(500);
	}
	close(raw);
	close(udp);
	return NULL;
}

static bool open_local(void)
{
	int fd = listen_at(6001);

	net.local[0] = connect_to("127.0.0.1", 6001);
	net.local[1] = accept(fd, NULL, NULL);
	close(fd);
	return net.local[0] >= 0 && net.local[1] >= 0 && !socketpair(AF_UNIX, SOCK_STREAM, 0, net.pair);
}

/* ---- a clone ---- */

static bool passes(int from, int to)
{
	char byte = 'x', got = 0;

	return write(from, &byte, 1) == 1 && read(to, &got, 1) == 1 && got == byte;
}

/* Our addresses: ours, and not the parent's. */
static bool is_itself(int id)
{
	char mine[SF_ADDRESS_BYTES], text[INET_ADDRSTRLEN];
	bool has_mine = false, has_parents = false;
	struct ifaddrs *all;

	if (sf_address((unsigned)id, mine, sizeof(mine)) || getifaddrs(&all))
		return false;
	for (struct ifaddrs *a = all; a; a = a->ifa_next) {
		if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET)
			continue;
		inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr, text, sizeof(text));
		has_mine |= !strcmp(text, mine);
		has_parents |= !strcmp(text, net.parent);
	}
	freeifaddrs(all);
	return has_mine && !has_parents;
}

static bool stream_ended(void)
{
	for (int ms = 0; ms < AT_ONCE_MS && !net.stream_error; ms += 10)
		usleep(10000);
	return net.stream_error > 0;
}

static bool listener_goes_on(int id)
{
	char mine[SF_ADDRESS_BYTES];
	int fd, one;
	bool ok;

	sf_address((unsigned)id, mine, sizeof(mine));
	fd = connect_to(mine, LISTEN_PORT);
	one = accept(net.listener, NULL, NULL);
	ok = fd >= 0 && one >= 0 && passes(fd, one);
	close(fd);
	close(one);
	return ok;
}

static bool reaches_peer(void)
{
	int fd = connect_to(net.peer, ECHO_PORT);
	bool ok = fd >= 0 && passes(fd, fd);

	close(fd);
	return ok;
}

static void be_clone(int id)
{
	const struct {
		bool right;
		const char *what;
	} seen[] = {
		{ is_itself(id), "it has not its own address, or its parent's" },
		{ stream_ended(), "the parent's connection did not end" },
		{ passes(net.local[0], net.local[1]), "a connection through the loopback ended" },
		{ passes(net.pair[0], net.pair[1]), "a UNIX connection ended" },
		{ listener_goes_on(id), "it does not listen any more" },
		{ reaches_peer(), "it does not reach the other end by itself" },
	};
	int wrong = 0;

	for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
		if (!seen[i].right)
			fprintf(stderr, "clone %d: %s\n", id, seen[i].what);
		wrong |= !seen[i].right << i;
	}
	sf_exit(wrong);
}

/* ---- the parent ---- */

static int judge(int round, int clones)
{
	int right = 0;

	for (int id = 1; id <= clones; id++) {
		struct sf_status s;

		if (!sf_status((unsigned)id, &s) && s.state == SF_STATE_EXITED && !s.status)
			right++;
		else
			fprintf(stderr, "round %d, clone %d: state %d, status %#x %s\n", round, id,
				(int)s.state, (unsigned)s.status, s.reason);
	}
	printf("round %d: %d of %d right\n", round, right, clones);
	return right;
}

static void start(int peer_ticket)
{
	const struct timeval never = { 0, 0 };
	pthread_t thread;

	sf_address(0, net.parent, sizeof(net.parent));
	sf_address_ticket(peer_ticket, 1, net.peer, sizeof(net.peer));
	net.stream = connect_to(net.peer, ECHO_PORT);
	setsockopt(net.stream, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof(never));
	setsockopt(net.stream, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof(never));
	net.listener = listen_at(LISTEN_PORT);
	if (net.stream < 0 || !open_local()) {
		fprintf(stderr, "no connections to begin with\n");
		exit(1);
	}
	pthread_create(&thread, NULL, keep_streaming, NULL);
	pthread_create(&thread, NULL, keep_flooding, NULL);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1, clones = argc > 2 ? atoi(argv[2]) : 4, right = 0;
	int peer = sf_request_ticket(1, NULL);
	uint64_t before;
	int id = peer > 0 ? sf_clone_ticket(peer) : -1;

	if (id > 0)
		be_peer();
	if (id < 0) {
		fprintf(stderr, "sf_clone: %s\n", sf_error());
		return 1;
	}
	start(peer);
	sf_atclone(NULL, NULL, calm_down);
	for (int round = 0; round < rounds; round++) {
		id = sf_clone((unsigned)clones);
		if (id > 0)
			be_clone(id);
		if (id < 0 || sf_join()) {
			fprintf(stderr, "sf_clone: %s\n", sf_error());
			return 1;
		}
		right += judge(round, sf_count());
	}
	before = net.echoed;
	for (int ms = 0; ms < 10000 && net.echoed == before && !net.stream_error; ms += 10)
		usleep(10000);
	if (net.stream_error || net.echoed == before)
		fprintf(stderr, "the parent's stream did not go on: error %d\n", net.stream_error);
	else
		printf("stream goes on\n");
	sf_kill_ticket(peer);
	printf("%d of %d right\n", right, rounds * clones);
	return right != rounds * clones || net.stream_error || net.echoed == before;
}
