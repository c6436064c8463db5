/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The jobs of `sf run`: their arguments, and the words of their commands. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "libsf/cmd/run.h"

int jobs_add_argument(struct jobs *jobs, const char *argument)
{
	char **more;

	/* grown at every power of two */
	if (!(jobs->count & (jobs->count - 1))) {
		more = realloc(jobs->arguments, 2 * (jobs->count + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		jobs->arguments = more;
	}
	jobs->arguments[jobs->count] = strdup(argument);
	if (!jobs->arguments[jobs->count])
		return -ENOMEM;
	jobs->count++;
	return 0;
}

int jobs_read_arguments(struct jobs *jobs, const char *file)
{
	FILE *in = strcmp(file, "-") ? fopen(file, "re") : stdin;
	_cleanup_free_ char *line = NULL;
	size_t room = 0;
	ssize_t len;
	int rc = 0;

	if (!in)
		return -errno;
	while (!rc && (len = getline(&line, &room, in)) >= 0) {
		if (len && line[len - 1] == '\n')
			line[len - 1] = 0;
		rc = jobs_add_argument(jobs, line);
	}
	if (!rc && ferror(in))
		rc = -EIO;
	if (in != stdin)
		fclose(in);
	return rc;
}

void jobs_fini(struct jobs *jobs)
{
	for (unsigned i = 0; jobs->arguments && i < jobs->count; i++)
		free(jobs->arguments[i]);
	free(jobs->arguments);
	jobs->arguments = NULL;
}

const char *job_name(const struct jobs *jobs, unsigned job, char number[12])
{
	if (jobs->arguments)
		return jobs->arguments[job - 1];
	snprintf(number, 12, "%u", job);
	return number;
}

struct replacement {
	const char *mark;
	const char *by;
};

/* Return: the mark that `text` begins with, or NULL. */
static const struct replacement *mark_at(const struct replacement *list, const char *text)
{
	for (; list->mark; list++) {
		if (!strncmp(text, list->mark, strlen(list->mark)))
			return list;
	}
	return NULL;
}

/* Return: the word with its marks replaced, the caller's to free(); NULL without memory. */
static char *replace(const char *word, const struct replacement *list, bool *used_argument)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	while (*word) {
		const struct replacement *mark = mark_at(list, word);

		if (!mark) {
			fputc(*word++, out);
			continue;
		}
		fputs(mark->by, out);
		word += strlen(mark->mark);
		*used_argument |= mark == list;
	}
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

char **job_words(const struct jobs *jobs, unsigned job, unsigned clone)
{
	char name[12], job_text[12], clone_text[12], count_text[12];
	const struct replacement list[] = {
		{ "{}", job_name(jobs, job, name) },	/* the first: see replace() */
		{ "{#}", job_text },
		{ "{%}", clone_text },
		{ "{n}", count_text },
		{ 0 }
	};
	unsigned count = 0;
	bool used = false;
	char **words;

	snprintf(job_text, sizeof(job_text), "%u", job);
	snprintf(clone_text, sizeof(clone_text), "%u", clone);
	snprintf(count_text, sizeof(count_text), "%u", jobs->count);
	while (jobs->command[count])
		count++;
	words = calloc(count + 2, sizeof(*words));
	for (unsigned i = 0; words && i < count; i++) {
		words[i] = replace(jobs->command[i], list, &used);
		if (!words[i]) {
			job_words_free(words);
			return NULL;
		}
	}
	/* an argument that the command does not say a place for comes last */
	if (words && jobs->arguments && !used && !(words[count] = strdup(list[0].by))) {
		job_words_free(words);
		return NULL;
	}
	return words;
}

void job_words_free(char **words)
{
	for (unsigned i = 0; words && words[i]; i++)
		free(words[i]);
	free(words);
}
