/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whom a guest's connections to the outside reach: a listener on this machine's loopback. */
#ifndef TESTS_KMOD_OUTSIDE_H
#define TESTS_KMOD_OUTSIDE_H

#include <stdbool.h>
#include <stdint.h>

struct outside {
	int listener;
	uint16_t port;
};

void outside_open(struct outside *outside);
void outside_close(struct outside *outside);
/* Return: the next connection. Fails the test if none comes. */
int outside_accept(struct outside *outside);
/* Reads what `t stream` sends, in order, until it ends, or for `ms`. Return: the next number. */
uint32_t outside_count(int fd, uint32_t from, int ms);

#endif
