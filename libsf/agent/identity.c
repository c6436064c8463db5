/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clone.conf: lines `NAME = VALUE`, and comments behind #. It is read in the parent, where a
 * mistake is told before there are clones, and where a file costs no page of a clone's.
 */
#define _GNU_SOURCE
#include "agent/identity.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"

#define CONFIG_LIMIT_BYTES 65536
#define MACHINE_ID_BYTES 16

/* -- in the parent ------------------------------------------------------------------------- */

/* Return: NULL, or what is wrong with the value. */
typedef const char *setting_fn(struct identity *identity, const char *value);

static const char *set_hostname(struct identity *identity, const char *value)
{
	for (const char *at = value; *at; at++) {
		if (*at == '%' && (at[1] == 'h' || at[1] == 'i'))
			at++;
		else if (!isalnum((unsigned char)*at) && *at != '-' && *at != '.')
			return "a hostname has letters, digits, - and . , here also %h and %i";
	}
	if (!*value || strlen(value) >= sizeof(identity->hostname))
		return "a hostname has 1 to 64 characters";
	strcpy(identity->hostname, value);
	return NULL;
}

static const char *set_machine_id(struct identity *identity, const char *value)
{
	if (strcmp(value, "new") && strcmp(value, "keep"))
		return "it is new or keep";
	identity->new_machine_id = !strcmp(value, "new");
	return NULL;
}

static const struct setting {
	const char *name;
	setting_fn *set;
} settings[] = {
	{ "hostname", set_hostname },
	{ "machine-id", set_machine_id },
};

/* Cuts white space off both ends. */
static char *trim(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	*end = 0;
	return text;
}

/* Return: NULL, or what is wrong with the line. */
static const char *take_line(struct identity *identity, char *line)
{
	char *value;

	line[strcspn(line, "#")] = 0;
	line = trim(line);
	if (!*line)
		return NULL;
	value = strchr(line, '=');
	if (!value)
		return "it is no NAME = VALUE";
	*value++ = 0;
	line = trim(line);
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (!strcmp(line, settings[i].name))
			return settings[i].set(identity, trim(value));
	}
	return "there is no such setting";
}

static void take_config(struct identity *identity, char *text)
{
	unsigned number = 0;
	char *line;

	while ((line = strsep(&text, "\n"))) {
		const char *wrong = take_line(identity, line);

		number++;
		if (wrong)
			log_warn("%s: line %u is ignored: %s", identity->config, number, wrong);
	}
}

/* Return: true if the file may have changed between the two. */
static bool differs(const struct stat *a, const struct stat *b)
{
	return a->st_nlink != b->st_nlink || a->st_dev != b->st_dev || a->st_ino != b->st_ino ||
	       a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	       a->st_mtim.tv_nsec != b->st_mtim.tv_nsec ||
	       a->st_ctim.tv_sec != b->st_ctim.tv_sec ||
	       a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

void identity_read(struct identity *identity)
{
	struct stat now = { .st_nlink = 0 };
	_cleanup_free_ char *text = NULL;
	size_t len;
	int error = 0;

	if (stat(identity->config, &now))
		now.st_nlink = 0;
	if (!differs(&now, &identity->seen) || (!now.st_nlink && !identity->seen.st_nlink))
		return;
	identity->seen = now;
	identity->hostname[0] = 0;
	identity->new_machine_id = false;
	if (now.st_nlink)
		error = io_read_file(identity->config, CONFIG_LIMIT_BYTES, &text, &len);
	if (error)
		log_warn("%s: %s", identity->config, strerror(-error));
	else if (text)
		take_config(identity, text);
}

/* -- in a clone ---------------------------------------------------------------------------- */

/* Return: false if the name would be too long. */
static bool expand(const char *pattern, uint32_t id, const char *parent, char *name, size_t room)
{
	size_t used = 0;

	for (const char *at = pattern; *at && used < room; at++) {
		int more;

		if (*at != '%')
			more = snprintf(name + used, room - used, "%c", *at);
		else if (*++at == 'i')
			more = snprintf(name + used, room - used, "%u", id);
		else
			more = snprintf(name + used, room - used, "%s", parent);
		used += (size_t)more;
	}
	return used < room;
}

static void apply_hostname(const struct identity *identity, uint32_t id)
{
	char parent[HOST_NAME_MAX + 1] = "", name[HOST_NAME_MAX + 1];

	if (gethostname(parent, sizeof(parent)) ||
	    !expand(identity->hostname, id, parent, name, sizeof(name))) {
		log_warn("hostname: \"%s\" is too long here", identity->hostname);
		return;
	}
	if (sethostname(name, strlen(name)))
		log_warn("hostname %s: %s", name, strerror(errno));
}

/* Puts a file in the place of another, whole. Return: 0 or -errno. */
static int replace(const char *path, const char *text)
{
	_cleanup_free_ char *temp = NULL;
	_cleanup_fd_ int fd = -1;
	int error;

	if (asprintf(&temp, "%s.XXXXXX", path) < 0) {
		temp = NULL;
		return -ENOMEM;
	}
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	error = io_write_full(fd, text, strlen(text));
	if (!error && (fchmod(fd, 0444) || rename(temp, path)))
		error = -errno;
	if (error)
		unlink(temp);
	return error;
}

static bool is_file(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISREG(st.st_mode);
}

static void apply_machine_id(const struct identity *identity)
{
	uint8_t id[MACHINE_ID_BYTES];
	char text[2 * MACHINE_ID_BYTES + 2];

	if (getrandom(id, sizeof(id), GRND_NONBLOCK) != sizeof(id)) {
		log_warn("machine id: %s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < sizeof(id); i++)
		sprintf(text + 2 * i, "%02x", id[i]);
	strcpy(text + 2 * sizeof(id), "\n");
	for (size_t i = 0; i < IDENTITY_PATHS; i++) {
		int error = i && !is_file(identity->machine_id[i]) ? 0 :
			    replace(identity->machine_id[i], text);

		if (error)
			log_warn("%s: %s", identity->machine_id[i], strerror(-error));
	}
}

void identity_apply(const struct identity *identity, uint32_t id)
{
	if (identity->hostname[0])
		apply_hostname(identity, id);
	if (identity->new_machine_id)
		apply_machine_id(identity);
}

void identity_init(struct identity *identity, const char *config, const char *machine_id,
		   const char *dbus_machine_id)
{
	*identity = (struct identity){ .config = config,
				       .machine_id = { machine_id, dbus_machine_id } };
	identity_read(identity);
}
