/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parses what a guest wrote, and believes none of it. */
#define _GNU_SOURCE
#include "host/sfd/request.h"

#include <errno.h>
#include <string.h>

#include "common/cleanup.h"

bool request_key_valid(const char *key)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-";
	size_t len = strlen(key);

	return len >= 1 && len <= SF_XS_KEY_MAX && strspn(key, allowed) == len;
}

int request_split(struct request *r, const char *text, size_t len)
{
	char *save = NULL;

	memset(r, 0, sizeof(*r));
	if (len > SF_XS_REQUEST_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < ' ' || text[i] > '~')
			return -EINVAL;
		r->line[i] = text[i];
	}
	for (char *w = strtok_r(r->line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		if (r->count == REQUEST_MAX_WORDS)
			return -EINVAL;
		r->words[r->count++] = w;
	}
	return r->count ? 0 : -EINVAL;
}

int request_number(const char *word, unsigned min, unsigned max, unsigned *number)
{
	unsigned long long value = 0;

	if (!word || !*word)
		return -EINVAL;
	for (; *word; word++) {
		if (*word < '0' || *word > '9')
			return -EINVAL;
		value = value * 10 + (unsigned)(*word - '0');
		if (value > max)
			return -EINVAL;
	}
	if (value < min)
		return -EINVAL;
	*number = (unsigned)value;
	return 0;
}

int request_ticket(const char *const *words, struct ticket_wish *wish, const char **wrong)
{
	const struct {
		const char *name;
		unsigned *value;
	} hints[] = { { "min=", &wish->min },
		      { "per-host=", &wish->per_host },
		      { "vcpus=", &wish->vcpus } };

	memset(wish, 0, sizeof(*wish));
	*wrong = "the number of clones is between 1 and 1024";
	if (request_number(words[0], 1, SF_MAX_CLONES, &wish->n))
		return -EINVAL;
	*wrong = "a ticket has no such hint, or it is no number from 0 to 1024";
	for (const char *const *w = words + 1; *w; w++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(hints) && strncmp(*w, hints[i].name, strlen(hints[i].name)))
			i++;
		if (i == ARRAY_SIZE(hints) ||
		    request_number(*w + strlen(hints[i].name), 0, SF_MAX_CLONES, hints[i].value))
			return -EINVAL;
	}
	*wrong = "more clones are wanted at least than at most";
	return wish->min > wish->n ? -EINVAL : 0;
}
