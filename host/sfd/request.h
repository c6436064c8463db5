/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of libsf's requests (proto/xenstore-tree.h): cut into words, every number checked. */
#ifndef HOST_SFD_REQUEST_H
#define HOST_SFD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/xenstore-tree.h"

#define REQUEST_MAX_WORDS 8

struct request {
	char line[SF_XS_REQUEST_MAX + 1];
	const char *words[REQUEST_MAX_WORDS + 1]; /* in `line`; the rest is NULL */
	unsigned count;				  /* at least 1 */
};

/* What `ticket` asks for; 0: not said. */
struct ticket_wish {
	unsigned n, min, per_host, vcpus;
};

/* True for 1 to SF_XS_KEY_MAX of [A-Za-z0-9-]. */
bool request_key_valid(const char *key);

/* Return: 0, or -EINVAL unless it is 1 to REQUEST_MAX_WORDS words of printable ASCII. */
int request_split(struct request *r, const char *text, size_t len);

/* A whole decimal number from `min` to `max`, or -EINVAL. NULL is none. */
int request_number(const char *word, unsigned min, unsigned max, unsigned *number);

/* The words behind `ticket`. Return: 0, or -EINVAL with a sentence in *wrong. */
int request_ticket(const char *const *words, struct ticket_wish *wish, const char **wrong);

#endif
