/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the hosts file; a line that cannot be understood is an error, never skipped. */
#include "host/sfd/hosts.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "proto/peer.h"

#define HOSTS_MAX 4096

int size_parse(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned long long value;
	unsigned shift = 0;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || !isdigit((unsigned char)*text))
		return -EINVAL;
	if (*end) {
		unit = strchr(units, toupper((unsigned char)*end));
		if (!unit || end[1 + (end[1] == 'B')])
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (value > UINT64_MAX >> shift)
		return -EINVAL;
	*bytes = (uint64_t)value << shift;
	return 0;
}

/* Names are parts of ids ("<host>.<number>/<k>") and of paths. */
static bool name_valid(const char *name)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len = strlen(name);

	return len < sizeof(((struct host *)NULL)->name) && *name != '.' &&
	       strspn(name, allowed) == len;
}

/* One line's words into *host. Return: 0, or -EINVAL with what is wrong in *wrong. */
static int parse_line(char *line, struct host *host, const char **wrong)
{
	char *save, *name = strtok_r(line, " \t", &save);
	char *address = strtok_r(NULL, " \t", &save), *colon, *word, *end;

	*wrong = "want: name address[:port] [mem=SIZE]";
	if (!address)
		return -EINVAL;
	*wrong = "a name has up to 63 of a-z A-Z 0-9 . _ -";
	if (!name_valid(name))
		return -EINVAL;
	snprintf(host->name, sizeof(host->name), "%s", name);
	host->port = PEER_DEFAULT_PORT;
	colon = strchr(address, ':');
	if (colon) {
		unsigned long port = strtoul(colon + 1, &end, 10);

		*colon = 0;
		*wrong = "the port is not between 1 and 65535";
		if (!isdigit((unsigned char)colon[1]) || *end || !port || port > UINT16_MAX)
			return -EINVAL;
		host->port = (uint16_t)port;
	}
	*wrong = "not an IPv4 address";
	if (inet_pton(AF_INET, address, &host->addr) != 1)
		return -EINVAL;
	while ((word = strtok_r(NULL, " \t", &save))) {
		*wrong = "unknown word behind the address: only mem=SIZE is";
		if (strncmp(word, "mem=", 4) || size_parse(word + 4, &host->mem_bytes))
			return -EINVAL;
	}
	return 0;
}

static bool is_known(struct daemon *d, const struct host *host)
{
	for (unsigned i = 0; i < d->host_count; i++) {
		const struct host *h = &d->hosts[i];

		if (!strcmp(h->name, host->name) ||
		    (h->addr.s_addr == host->addr.s_addr && h->port == host->port))
			return true;
	}
	return false;
}

static int add_host(struct daemon *d, char *line, unsigned number, char why[WHY_BYTES])
{
	struct host host = { .daemon = d, .index = d->host_count }, *bigger;
	const char *wrong;

	line[strcspn(line, "#\r")] = 0;
	if (!line[strspn(line, " \t")])
		return 0;
	if (parse_line(line, &host, &wrong)) {
		snprintf(why, WHY_BYTES, "%s, line %u: %s", d->config.hosts_file, number, wrong);
		return -EINVAL;
	}
	if (is_known(d, &host) || d->host_count == HOSTS_MAX) {
		snprintf(why, WHY_BYTES,
			 "%s, line %u: host \"%s\" or its address is there twice, or there are "
			 "over %d",
			 d->config.hosts_file, number, host.name, HOSTS_MAX);
		return -EINVAL;
	}
	bigger = reallocarray(d->hosts, d->host_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	d->hosts = bigger;
	d->hosts[d->host_count++] = host;
	return 0;
}

int hosts_read(struct daemon *d, char why[WHY_BYTES])
{
	_cleanup_free_ char *text = NULL;
	char *line, *next;
	unsigned number = 0;
	size_t len;
	int rc = io_read_file(d->config.hosts_file, 1 << 20, &text, &len);

	if (rc) {
		snprintf(why, WHY_BYTES, "cannot read the hosts file %s: %s", d->config.hosts_file,
			 strerror(-rc));
		return rc;
	}
	for (line = text; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		rc = add_host(d, line, ++number, why);
		if (rc)
			return rc;
	}
	d->self = hosts_find(d, d->config.host);
	if (!d->self) {
		snprintf(why, WHY_BYTES, "host \"%s\" is not in %s", d->config.host,
			 d->config.hosts_file);
		return -ENOENT;
	}
	return 0;
}

void hosts_free(struct daemon *d)
{
	free(d->hosts);
	d->hosts = NULL;
	d->host_count = 0;
}

struct host *hosts_find(struct daemon *d, const char *name)
{
	for (unsigned i = 0; i < d->host_count; i++) {
		if (!strcmp(d->hosts[i].name, name))
			return &d->hosts[i];
	}
	return NULL;
}
