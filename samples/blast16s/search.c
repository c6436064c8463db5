// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Searches 16S genes in a data set of 16S genes with BLAST+, in clones of this VM.
 *
 *   search FASTA QUERIES WORKERS
 *
 * The VM prepares once what every search needs: it formats FASTA into a BLAST database and picks
 * QUERIES of its sequences, evenly spread. It searches for all of them by itself, so that there is
 * something to compare with. Then it makes WORKERS clones of itself. Each of them finds programs,
 * database and queries in the memory it was born with, runs the unmodified blastn on its share, and
 * hands in what that found. Joined in the order of the queries, the shares must be equal, byte for
 * byte, to what the VM found alone.
 *
 * The hits go to standard output (blastn's tabular format), the story to standard error.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#include "common/cleanup.h"

#define DATABASE "/tmp/16s"
#define QUERY_FILE "/tmp/query.fa"
#define HIT_FILE "/tmp/hits.tsv"
#define MAX_WORKERS 64

/* Some bytes, on the heap. */
struct text {
	char *bytes;
	size_t len;
};

static void text_free(struct text *text)
{
	free(text->bytes);
}

#define _cleanup_text_ __attribute__((cleanup(text_free)))

/* The queries: a FASTA text, and where in it each one begins (one more for the end). */
struct queries {
	struct text fasta;
	size_t *begin;
	unsigned count;
};

static void __attribute__((format(printf, 1, 2))) tell(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* Ends the program with a sentence and, unless it is 0, an errno. */
static void __attribute__((noreturn)) give_up(const char *what, int error)
{
	tell(error ? "search: %s: %s" : "search: %s", what, strerror(error));
	exit(EXIT_FAILURE);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void text_append(struct text *text, const void *bytes, size_t len)
{
	char *grown = realloc(text->bytes, text->len + len + 1);

	if (!grown)
		give_up("memory", errno);
	memcpy(grown + text->len, bytes, len);
	text->bytes = grown;
	text->len += len;
	grown[text->len] = '\0';
}

static struct text read_file(const char *path)
{
	struct text text = { NULL, 0 };
	char buffer[65536];
	FILE *file = fopen(path, "r");
	size_t got;

	if (!file)
		give_up(path, errno);
	text_append(&text, "", 0);
	while ((got = fread(buffer, 1, sizeof(buffer), file)) > 0)
		text_append(&text, buffer, got);
	if (ferror(file))
		give_up(path, errno);
	fclose(file);
	return text;
}

static void write_file(const char *path, const char *bytes, size_t len)
{
	FILE *file = fopen(path, "w");

	if (!file || fwrite(bytes, 1, len, file) != len || fclose(file))
		give_up(path, errno);
}

/* Runs a program to its end, its standard output thrown away. */
static void run(char *const argv[])
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		give_up("fork", errno);
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(127);
		execvp(argv[0], argv);
		tell("search: cannot run %s: %s", argv[0], strerror(errno));
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			give_up("waitpid", errno);
	if (status != 0)
		give_up("a program failed", 0);
}

/* The next sequence at or after `at`. Return: its '>', or the end of the text. */
static const char *next_sequence(const struct text *fasta, const char *at)
{
	const char *end = fasta->bytes + fasta->len;

	while (at < end && !(*at == '>' && (at == fasta->bytes || at[-1] == '\n')))
		at++;
	return at;
}

static unsigned count_sequences(const struct text *fasta)
{
	const char *end = fasta->bytes + fasta->len, *at = next_sequence(fasta, fasta->bytes);
	unsigned n = 0;

	for (; at < end; at = next_sequence(fasta, at + 1))
		n++;
	return n;
}

/* Picks `count` of the `total` sequences, evenly spread. */
static struct queries pick_queries(const struct text *fasta, unsigned total, unsigned count)
{
	struct queries q = { .begin = calloc(count + 1, sizeof(size_t)) };
	const char *end = fasta->bytes + fasta->len, *at = next_sequence(fasta, fasta->bytes), *next;

	if (!q.begin)
		give_up("memory", errno);
	for (unsigned i = 0; at < end && q.count < count; i++, at = next) {
		next = next_sequence(fasta, at + 1);
		if (i != (uint64_t)q.count * total / count)
			continue;
		text_append(&q.fasta, at, (size_t)(next - at));
		q.begin[++q.count] = q.fasta.len;
	}
	return q;
}

/* What blastn finds for the queries first…last-1: the five nearest sequences of each. */
static struct text search(const struct queries *q, unsigned first, unsigned last)
{
	char *const blastn[] = {
		"blastn", "-db", DATABASE, "-query", QUERY_FILE, "-out", HIT_FILE,
		"-outfmt", "6 qseqid sseqid pident length evalue bitscore",
		"-max_target_seqs", "5", "-max_hsps", "1", NULL
	};

	write_file(QUERY_FILE, q->fasta.bytes + q->begin[first], q->begin[last] - q->begin[first]);
	run(blastn);
	return read_file(HIT_FILE);
}

static unsigned count_lines(const struct text *text)
{
	unsigned n = 0;

	for (size_t i = 0; i < text->len; i++)
		n += text->bytes[i] == '\n';
	return n;
}

/* In a clone: search for the share of worker `id` of `workers`, hand it in, end. */
static void __attribute__((noreturn)) work(const struct queries *q, unsigned id, unsigned workers)
{
	unsigned first = (id - 1) * q->count / workers, last = id * q->count / workers;
	double begin_s = now_s();
	struct text hits = search(q, first, last);

	tell("worker %u: queries %u to %u, %u hits, %.1f s", id, first + 1, last,
	     count_lines(&hits), now_s() - begin_s);
	if (sf_set_result(hits.bytes, hits.len) < 0)
		give_up(sf_error(), 0);
	sf_exit(EXIT_SUCCESS);
}

/* In the parent: waits for the clones of a ticket, telling of each that did not do its work. */
static void wait_for(int ticket)
{
	int id;

	while ((id = sf_wait_any(ticket, -1)) > 0) {
		struct sf_status status;

		if (sf_status_ticket(ticket, (unsigned)id, &status) < 0)
			give_up(sf_error(), 0);
		if (status.state != SF_STATE_EXITED)
			tell("worker %d was lost: %s", id, status.reason);
		else if (status.status != EXIT_SUCCESS)
			tell("worker %d failed on %s", id, status.host);
	}
	if (id < 0 || sf_join_ticket(ticket) < 0)
		give_up(sf_error(), 0);
}

/*
 * In the parent: what the workers found, in the order of the queries. One that did not come to its
 * end leaves a gap.
 */
static struct text collect(int ticket, unsigned workers)
{
	struct text all = { NULL, 0 };

	text_append(&all, "", 0);
	for (unsigned id = 1; id <= workers; id++) {
		size_t len;
		_cleanup_free_ void *hits = sf_result_ticket(ticket, id, &len);

		if (hits)
			text_append(&all, hits, len);
		else
			tell("nothing from worker %u: %s", id, sf_error());
	}
	return all;
}

/* Searches for all queries in clones. Return: what they found; *workers is how many there were. */
static struct text search_in_clones(const struct queries *q, unsigned *workers)
{
	struct text hits;
	int ticket = sf_request_ticket(*workers, NULL), id;

	id = ticket < 0 ? -1 : sf_clone_ticket(ticket);
	if (id < 0)
		give_up(sf_error(), 0);
	if (id > 0)
		work(q, (unsigned)id, (unsigned)sf_count());
	*workers = (unsigned)sf_count();
	wait_for(ticket);
	hits = collect(ticket, *workers);
	sf_ticket_free(ticket);
	return hits;
}

static unsigned parse_count(const char *word, unsigned most)
{
	char *end;
	unsigned long n = strtoul(word, &end, 10);

	if (*end || n < 1 || n > most)
		give_up("a count is out of range", 0);
	return (unsigned)n;
}

int main(int argc, char **argv)
{
	_cleanup_text_ struct text fasta = { NULL, 0 }, alone = { NULL, 0 }, together = { NULL, 0 };
	struct queries queries;
	unsigned workers, total;
	double begin_s = now_s(), alone_s, together_s;

	if (argc != 4)
		give_up("usage: search FASTA QUERIES WORKERS", 0);
	fasta = read_file(argv[1]);
	total = count_sequences(&fasta);
	queries = pick_queries(&fasta, total, parse_count(argv[2], total));
	workers = parse_count(argv[3], queries.count);

	run((char *[]){ "makeblastdb", "-in", argv[1], "-dbtype", "nucl", "-out", DATABASE,
			"-title", "16S", NULL });
	tell("database of %u sequences made in %.1f s", total, now_s() - begin_s);

	tell("searching for %u of its sequences, alone …", queries.count);
	begin_s = now_s();
	alone = search(&queries, 0, queries.count);
	alone_s = now_s() - begin_s;
	tell("alone: %u queries, %u hits, %.1f s", queries.count, count_lines(&alone), alone_s);

	tell("searching for them in %u clones …", workers);
	begin_s = now_s();
	together = search_in_clones(&queries, &workers);
	together_s = now_s() - begin_s;
	tell("%u workers: %u queries, %u hits, %.1f s, %.1f times as fast", workers, queries.count,
	     count_lines(&together), together_s, alone_s / together_s);

	if (together.len != alone.len || memcmp(together.bytes, alone.bytes, alone.len))
		give_up("the workers' hits differ from those found alone", 0);
	tell("their hits equal those found alone, byte for byte");
	fwrite(together.bytes, 1, together.len, stdout);
	free(queries.fasta.bytes);
	free(queries.begin);
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
