/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: what clocks and sleepers say in a clone that begins long after its instant.
 *
 *   guest-clock
 *
 * Three threads sleep: for four seconds, by poll() for four seconds, and until the wall clock says
 * so. After one second a checkpoint is made; three seconds later a clone of it. In the clone the
 * first two have three seconds to go, because its time stood still; the third one's time has come.
 * The clone asks its parent for the time.
 *
 * The time is written for a clone when it looks. If the machine does not let it run just then, its
 * clock is behind by that, and nobody can know; so may its sleepers be late: up to three clones
 * have a try. What is not set, or set wrong, is wrong in each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define PORT 5005
#define SLEEP_S 4
#define OFF_LIMIT_S 0.05	/* of the wall clock */
#define LATE_LIMIT_S 0.7	/* of a sleeper: the machine may be busy */
#define TRIES 3

static double now_s(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct sleeper {
	const char *name;
	void (*sleep)(void);
	double from_mono, to_mono, to_wall;	/* s */
} sleepers[3];
static double wall_end;	/* of the third one's sleep */

static void by_nanosleep(void)
{
	struct timespec t = { SLEEP_S, 0 };

	nanosleep(&t, NULL);
}

static void by_poll(void)
{
	poll(NULL, 0, SLEEP_S * 1000);
}

static void by_wall_clock(void)
{
	struct itimerspec when = { .it_value = { (time_t)wall_end, 0 } };
	int fd = timerfd_create(CLOCK_REALTIME, 0);
	uint64_t count;

	timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL);
	if (read(fd, &count, sizeof(count)) < 0)
		perror("timerfd");
}

static void *sleep_once(void *arg)
{
	struct sleeper *s = arg;

	s->from_mono = now_s(CLOCK_MONOTONIC);
	s->sleep();
	s->to_wall = now_s(CLOCK_REALTIME);
	s->to_mono = now_s(CLOCK_MONOTONIC);
	return NULL;
}

/* The parent tells what time it is, to whoever asks. */
static void *tell_time(void *arg)
{
	int fd = *(int *)arg;

	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		double t;

		if (recvfrom(fd, &t, sizeof(t), 0, (struct sockaddr *)&from, &len) != sizeof(t))
			continue;
		t = now_s(CLOCK_REALTIME);
		sendto(fd, &t, sizeof(t), 0, (struct sockaddr *)&from, len);
	}
	return NULL;
}

/* Return: how far our clock is ahead of the parent's, by the quickest of some questions. */
static double ahead_of_parent_s(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	double ahead = NAN, quickest = 1e9;
	char text[SF_ADDRESS_BYTES];

	sf_address(0, text, sizeof(text));
	inet_pton(AF_INET, text, &to.sin_addr);
	for (int i = 0; i < 20; i++) {
		struct pollfd answer = { .fd = fd, .events = POLLIN };
		double asked = now_s(CLOCK_REALTIME), theirs = 0, got;

		sendto(fd, &asked, sizeof(asked), 0, (struct sockaddr *)&to, sizeof(to));
		if (poll(&answer, 1, 1000) < 1 || read(fd, &theirs, sizeof(theirs)) != sizeof(theirs))
			continue;
		got = now_s(CLOCK_REALTIME);
		if (got - asked < quickest) {
			quickest = got - asked;
			ahead = (asked + got) / 2 - theirs;
		}
	}
	return ahead;
}

static void be_clone(void)
{
	double begin_wall = now_s(CLOCK_REALTIME), begin_mono = now_s(CLOCK_MONOTONIC);
	double ahead = ahead_of_parent_s(), late;
	int wrong = 0;

	printf("wall clock %+.1f ms\n", ahead * 1e3);
	wrong |= !(fabs(ahead) < OFF_LIMIT_S);
	/* it slept 1 s before the instant, and the rest of its time here */
	for (int i = 0; i < 2; i++) {
		while (!sleepers[i].to_mono)
			usleep(10000);
		late = sleepers[i].to_mono - sleepers[i].from_mono - SLEEP_S;
		printf("%s: %+.0f ms late, %.1f s after the clone's begin\n", sleepers[i].name, late * 1e3,
		       sleepers[i].to_mono - begin_mono);
		wrong |= !(late > -0.01 && late < LATE_LIMIT_S) || sleepers[i].to_mono - begin_mono < 1;
	}
	while (!sleepers[2].to_wall)
		usleep(10000);
	late = sleepers[2].to_wall - (wall_end > begin_wall ? wall_end : begin_wall);
	printf("%s: %+.0f ms late\n", sleepers[2].name, late * 1e3);
	wrong |= !(late < LATE_LIMIT_S);
	sf_exit(wrong);
}

/* Return: what the clone ended with, or -1. */
static int try_clone(int checkpoint, int ticket)
{
	struct sf_status status;

	if (sf_create_clones(checkpoint, ticket) != 1 || sf_join_ticket(ticket) ||
	    sf_status_ticket(ticket, 1, &status)) {
		fprintf(stderr, "sf_create_clones: %s\n", sf_error());
		return -1;
	}
	printf("clone: status %d\n", status.status);
	if (sf_ticket_free(ticket))
		return -1;
	return status.state == SF_STATE_EXITED ? status.status : -1;
}

int main(void)
{
	static void (*const ways[])(void) = { by_nanosleep, by_poll, by_wall_clock };
	static const char *const names[] = { "nanosleep", "poll", "timer on the wall clock" };
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), ticket = sf_request_ticket(1, NULL);
	int checkpoint, got;
	pthread_t thread;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)))
		return 1;
	pthread_create(&thread, NULL, tell_time, &fd);
	wall_end = (double)(time_t)(now_s(CLOCK_REALTIME) + SLEEP_S + 1);
	for (int i = 0; i < 3; i++) {
		sleepers[i] = (struct sleeper){ .name = names[i], .sleep = ways[i] };
		pthread_create(&thread, NULL, sleep_once, &sleepers[i]);
	}
	sleep(1);
	switch (sf_checkpoint_parent(&checkpoint)) {
	case -1:
		fprintf(stderr, "sf_checkpoint_parent: %s\n", sf_error());
		return 1;
	case 0:
		break;
	default:
		be_clone();
	}
	sleep(3);
	got = try_clone(checkpoint, ticket);
	for (int i = 1; i < TRIES && got > 0; i++)
		got = try_clone(checkpoint, sf_request_ticket(1, NULL));
	return got != 0;
}
