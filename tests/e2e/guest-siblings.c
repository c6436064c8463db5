/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: every clone talks TCP to every other and to the parent by sf_address(), each under
 * its own address, with as many threads busy as the VM has CPUs.
 *
 *   guest-siblings CLONES THREADS
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define PORT 4000

static int listener, my_id, expected;
static volatile int busy = 1;
static volatile unsigned long spins[64];

static void *spin(void *arg)
{
	unsigned long *mine = arg;

	while (busy)
		++*(volatile unsigned long *)mine;
	return NULL;
}

static int connect_to(unsigned id)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct timeval limit = { 20, 0 };
	char address[SF_ADDRESS_BYTES];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (sf_address(id, address, sizeof(address)) || inet_pton(AF_INET, address, &to.sin_addr) != 1) {
		fprintf(stderr, "sf_address(%u): %s\n", id, sf_error());
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	/* a sibling may be slower than we are, but its listener was there before we were */
	for (int tries = 0; tries < 100; tries++) {
		if (!connect(fd, (struct sockaddr *)&to, sizeof(to)))
			return fd;
		usleep(100000);
	}
	fprintf(stderr, "%d to %u at %s: no connection\n", my_id, id, address);
	close(fd);
	return -1;
}

/* Says our number to `id`, hears its. Return: 0. */
static int greet(unsigned id)
{
	int fd = connect_to(id), theirs = -1;

	if (fd < 0)
		return -1;
	if (write(fd, &my_id, sizeof(my_id)) != sizeof(my_id) || read(fd, &theirs, sizeof(theirs)) != sizeof(theirs))
		theirs = -1;
	close(fd);
	if (theirs != (int)id)
		fprintf(stderr, "%d reached %d where %u should be\n", my_id, theirs, id);
	return theirs == (int)id ? 0 : -1;
}

/* Answers greetings until `expected` came, each from the address of who it says it is. */
static void *answer(void *arg)
{
	long *wrong = arg;

	for (int i = 0; i < expected; i++) {
		char address[SF_ADDRESS_BYTES], from_text[INET_ADDRSTRLEN];
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		int fd = accept(listener, (struct sockaddr *)&from, &len), theirs = -1;

		if (fd < 0 || read(fd, &theirs, sizeof(theirs)) != sizeof(theirs) ||
		    write(fd, &my_id, sizeof(my_id)) != sizeof(my_id))
			++*wrong;
		inet_ntop(AF_INET, &from.sin_addr, from_text, sizeof(from_text));
		if (theirs < 0 || sf_address((unsigned)theirs, address, sizeof(address)) ||
		    strcmp(address, from_text)) {
			fprintf(stderr, "%d: %s says it is %d\n", my_id, from_text, theirs);
			++*wrong;
		}
		close(fd);
	}
	return NULL;
}

static long meet_everybody(int count)
{
	pthread_t thread;
	long wrong = 0, refused = 0;

	expected = count;	/* everybody but ourselves greets us, the parent among them */
	pthread_create(&thread, NULL, answer, &wrong);
	for (int id = 0; id <= count; id++) {
		if (id != my_id && greet((unsigned)id))
			refused++;
	}
	pthread_join(thread, NULL);
	return wrong + refused;
}

static int threads_run(int threads)
{
	unsigned long before[64];

	for (int i = 0; i < threads; i++)
		before[i] = spins[i];
	for (int i = 0; i < threads; i++) {
		for (int tries = 0; spins[i] == before[i]; tries++) {
			if (tries > 1000)
				return 0;
			usleep(10000);
		}
	}
	return 1;
}

int main(int argc, char **argv)
{
	int clones = argc > 1 ? atoi(argv[1]) : 4, threads = argc > 2 ? atoi(argv[2]) : 1;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct sf_status status;
	pthread_t thread;
	long wrong;

	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 64))
		return 1;
	for (int i = 0; i < threads; i++)
		pthread_create(&thread, NULL, spin, (void *)&spins[i]);
	my_id = sf_clone((unsigned)clones);
	if (my_id < 0) {
		fprintf(stderr, "sf_clone: %s\n", sf_error());
		return 1;
	}
	wrong = meet_everybody(sf_count());
	if (!threads_run(threads)) {
		fprintf(stderr, "%d: a thread does not run\n", my_id);
		wrong++;
	}
	busy = 0;
	if (my_id > 0)
		sf_exit(wrong ? 1 : 0);
	sf_join();
	for (int id = 1; id <= clones; id++) {
		if (sf_status((unsigned)id, &status) || status.state != SF_STATE_EXITED || status.status)
			wrong++;
	}
	printf("%ld wrong\n", wrong);
	return wrong != 0;
}
