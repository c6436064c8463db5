/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What shim-test.sh runs: the cases of MPI_Comm_spawn() that libsfmpi must get right, by name. A
 * process that was spawned does what its first argument says.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *self;

/* ---- checks ---- */

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);         \
			MPI_Abort(MPI_COMM_WORLD, 1);                                              \
		}                                                                                  \
	} while (0)

static int error_class(int code)
{
	int class;

	MPI_Error_class(code, &class);
	return class;
}

static int descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static int sockets_of_keeper(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++) {
		struct sockaddr peer = { 0 };
		socklen_t len = sizeof(peer);

		if (!getpeername(fd, &peer, &len) && peer.sa_family == AF_UNIX &&
		    len > sizeof(sa_family_t) + 5 &&
		    !strncmp(peer.sa_data + 1, "snowflock-mpi", 13))
			count++;
	}
	return count;
}

static int rank(void)
{
	int rank;

	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	return rank;
}

/* ---- those that are spawned ---- */

/* Sends who it is, what it got and where it is to the parent's first rank. */
static void answer(MPI_Comm parent, int argc, char **argv)
{
	char text[8192], cwd[PATH_MAX];
	int used = 0, *appnum, flag;

	MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_APPNUM, &appnum, &flag);
	used = sprintf(text, "%d", flag ? *appnum : -1);
	for (int i = 2; i < argc; i++)
		used += sprintf(text + used, "|%s",
				strcmp(argv[i], "CWD") ? argv[i] : getcwd(cwd, sizeof(cwd)));
	MPI_Send(text, used + 1, MPI_CHAR, 0, 0, parent);
}

static void be_spawned(MPI_Comm parent, int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "spawn")) { /* one more below this one */
		char *args[] = { "answer", "grandchild", NULL }, text[64];
		MPI_Comm child;

		MPI_Comm_spawn(self, args, 2, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child,
			       MPI_ERRCODES_IGNORE);
		for (int i = 0; i < 2; i++)
			MPI_Recv(text, sizeof(text), MPI_CHAR, i, 0, child, MPI_STATUS_IGNORE);
		MPI_Send(text, (int)strlen(text) + 1, MPI_CHAR, 0, 0, parent);
		MPI_Comm_disconnect(&child);
	} else {
		answer(parent, argc, argv);
	}
	MPI_Comm_disconnect(&parent);
}

/* ---- cases ---- */

/* Awaits the answer of each of `count` and checks it. */
static void expect(MPI_Comm *child, int count, const char *answer)
{
	char text[8192];

	for (int i = 0; i < count; i++) {
		MPI_Recv(text, sizeof(text), MPI_CHAR, i, 0, *child, MPI_STATUS_IGNORE);
		if (strcmp(text, answer))
			fprintf(stderr, "rank %d says \"%s\", not \"%s\"\n", i, text, answer);
		CHECK(!strcmp(text, answer));
	}
	MPI_Comm_disconnect(child);
}

static void spawn_some(int count)
{
	char *args[] = { "answer", "x", NULL };
	int codes[16];
	MPI_Comm child;

	memset(codes, 0x55, sizeof(codes));
	CHECK(!MPI_Comm_spawn(self, args, count, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child, codes));
	for (int i = 0; i < count; i++)
		CHECK(codes[i] == MPI_SUCCESS);
	expect(&child, count, "0|x");
}

static void case_twice(void)
{
	spawn_some(3);
	spawn_some(2);
}

/* As Fortran's mpi_f08 does it. */
static void case_profiled(void)
{
	char *args[] = { "answer", NULL };
	MPI_Comm child;

	CHECK(!PMPI_Comm_spawn(self, args, 2, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child,
			       MPI_ERRCODES_IGNORE));
	expect(&child, 2, "0");
}

static void case_fifty(void)
{
	int before = 0;

	for (int i = 0; i < 50; i++) {
		spawn_some(1);
		if (!i)
			before = descriptors();
	}
	CHECK(descriptors() == before);
}

/* Two commands, each with an info of its own, and different numbers. */
static void case_multiple(void)
{
	char *program = realpath("/proc/self/exe", NULL), *commands[] = { program, program };
	char *first[] = { "answer", "CWD", NULL }, *second[] = { "answer", "CWD", "two", NULL };
	char **args[] = { first, second }, text[64];
	int counts[] = { 1, 2 }, codes[3] = { -1, -1, -1 };
	MPI_Info infos[2];
	MPI_Comm child;

	MPI_Info_create(&infos[0]);
	MPI_Info_create(&infos[1]);
	MPI_Info_set(infos[0], "wdir", "/");
	MPI_Info_set(infos[0], "soft", "0:1");
	MPI_Info_set(infos[1], "wdir", "/tmp");
	MPI_Info_set(infos[1], "sf_per_clone", "2");
	MPI_Info_set(infos[1], "sf_min_clones", "1");
	CHECK(!MPI_Comm_spawn_multiple(2, commands, args, counts, infos, 0, MPI_COMM_SELF, &child,
				       codes));
	CHECK(!codes[0] && !codes[1] && !codes[2]);
	MPI_Recv(text, sizeof(text), MPI_CHAR, 0, 0, child, MPI_STATUS_IGNORE);
	CHECK(!strcmp(text, "0|/"));
	for (int i = 1; i < 3; i++) {
		MPI_Recv(text, sizeof(text), MPI_CHAR, i, 0, child, MPI_STATUS_IGNORE);
		CHECK(!strcmp(text, "1|/tmp|two"));
	}
	MPI_Comm_disconnect(&child);
	MPI_Info_free(&infos[0]);
	MPI_Info_free(&infos[1]);
	free(program);
}

static void case_below(void)
{
	char *args[] = { "spawn", NULL };
	MPI_Comm child;

	CHECK(!MPI_Comm_spawn(self, args, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child,
			      MPI_ERRCODES_IGNORE));
	expect(&child, 1, "0|grandchild");
}

/* The program's own host is its own business. */
static void case_host(void)
{
	char *args[] = { "answer", NULL };
	MPI_Comm child;
	MPI_Info info;

	MPI_Info_create(&info);
	MPI_Info_set(info, "host", "127.0.0.77:2");
	CHECK(!MPI_Comm_spawn(self, args, 2, info, 0, MPI_COMM_SELF, &child, MPI_ERRCODES_IGNORE));
	expect(&child, 2, "0");
	MPI_Info_free(&info);
}

/* Spawns what cannot be, from all ranks; then something that can. */
static void case_fails(void)
{
	const char *program = getenv("FAIL_PROGRAM");
	int codes[3] = { -1, -1, -1 }, rc;
	MPI_Comm child = MPI_COMM_WORLD;
	int root = rank() == 1;

	MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
	rc = MPI_Comm_spawn(root ? (program ? program : self) : NULL, MPI_ARGV_NULL, root ? 3 : -1,
			    MPI_INFO_NULL, 1, MPI_COMM_WORLD, &child, codes);
	CHECK(error_class(rc) == MPI_ERR_SPAWN);
	CHECK(child == MPI_COMM_NULL);
	for (int i = 0; i < 3; i++)
		CHECK(error_class(codes[i]) == MPI_ERR_SPAWN);
	MPI_Barrier(MPI_COMM_WORLD);
}

static void case_fails_late(void)
{
	int codes[2] = { 0, 0 };
	MPI_Comm child;

	CHECK(MPI_Comm_spawn(self, MPI_ARGV_NULL, 2, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &child,
			     codes) == MPI_ERR_SPAWN);
	CHECK(codes[0] == MPI_ERR_SPAWN && codes[1] == MPI_ERR_SPAWN);
}

static void on_error(MPI_Comm *comm, int *code, ...)
{
	CHECK(*comm == MPI_COMM_WORLD && error_class(*code) == MPI_ERR_SPAWN);
	MPI_Comm_set_name(*comm, "handled");
}

/* The communicator's own handler is called, on every rank; no error codes wanted by some. */
static void case_handler(void)
{
	char name[MPI_MAX_OBJECT_NAME];
	MPI_Errhandler handler;
	int codes[1], len;
	MPI_Comm child;

	MPI_Comm_create_errhandler(on_error, &handler);
	MPI_Comm_set_errhandler(MPI_COMM_WORLD, handler);
	MPI_Comm_spawn("no-such-program", MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_WORLD,
		       &child, rank() ? codes : MPI_ERRCODES_IGNORE);
	MPI_Comm_get_name(MPI_COMM_WORLD, name, &len);
	CHECK(!strcmp(name, "handled"));
}

/* From all ranks with the second as root; some want error codes, some do not. */
static void case_root(void)
{
	char *args[] = { "answer", NULL }, text[64];
	int codes[2] = { -1, -1 }, root = rank() == 1, size;
	MPI_Comm child, both;

	CHECK(!MPI_Comm_spawn(root ? self : NULL, root ? args : NULL, root ? 2 : -5,
			      root ? MPI_INFO_NULL : (MPI_Info)12345, 1, MPI_COMM_WORLD, &child,
			      root ? MPI_ERRCODES_IGNORE : codes));
	if (!root)
		CHECK(!codes[0] && !codes[1]);
	if (!rank()) {
		for (int i = 0; i < 2; i++)
			MPI_Recv(text, sizeof(text), MPI_CHAR, i, 0, child, MPI_STATUS_IGNORE);
	}
	MPI_Comm_remote_size(child, &size);
	CHECK(size == 2);
	MPI_Comm_dup(MPI_COMM_SELF, &both);
	MPI_Comm_free(&both);
	MPI_Comm_disconnect(&child);
}

static void case_arguments(void)
{
	char longer[3001], answer[8192];
	char *args[] = { "answer",
			 "",
			 "a b",
			 " x ",
			 "=",
			 "a;b\"c'd",
			 "\\n",
			 "$HOME `x`",
			 "tab\t",
			 ":",
			 "-n",
			 "",
			 getenv("WITH_LINES") ? "two\nlines\n" : "*",
			 "\n",
			 "\\",
			 longer,
			 NULL };
	size_t used = 1;
	MPI_Comm child;

	for (size_t i = 0; i < sizeof(longer) - 1; i++)
		longer[i] = "abc\\d\ne%"[i % 8];
	longer[sizeof(longer) - 1] = 0;
	if (!getenv("WITH_LINES"))
		args[13] = NULL;
	strcpy(answer, "0");
	for (size_t i = 1; args[i]; i++)
		used += (size_t)sprintf(answer + used, "|%s", args[i]);
	CHECK(!MPI_Comm_spawn(self, args, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child,
			      MPI_ERRCODES_IGNORE));
	expect(&child, 1, answer);
}

/* Nothing of the connection is in a child process; the parent spawns on. */
static void case_fork(void)
{
	int status;
	pid_t pid;

	spawn_some(1);
	CHECK(sockets_of_keeper() == 1);
	pid = fork();
	if (!pid)
		_exit(sockets_of_keeper());
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	spawn_some(1);
}

static void *spawn_in_thread(void *number)
{
	(void)number;
	for (int i = 0; i < 3; i++)
		spawn_some(1);
	return NULL;
}

static void case_threads(void)
{
	pthread_t threads[3];

	for (int i = 0; i < 3; i++)
		CHECK(!pthread_create(&threads[i], NULL, spawn_in_thread, NULL));
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
}

/* More clones than their addresses have room for in a message to Hydra, beside a long info. */
static void case_crowd(void)
{
	char *args[] = { "answer", NULL }, note[481];
	MPI_Comm child;
	MPI_Info info;

	memset(note, 'x', sizeof(note) - 1);
	note[sizeof(note) - 1] = 0;
	MPI_Info_create(&info);
	MPI_Info_set(info, "note", note);
	CHECK(!MPI_Comm_spawn(self, args, 16, info, 0, MPI_COMM_SELF, &child, MPI_ERRCODES_IGNORE));
	expect(&child, 16, "0");
	MPI_Info_free(&info);
}

/* As it was started: arguments (in `own_argv`), standard input, and an exit status of its own. */
static char **own_argv;
static int status;

static void case_alone(void)
{
	char line[64];

	CHECK(fgets(line, sizeof(line), stdin));
	spawn_some(2);
	printf("input %s", line);
	for (int i = 0; own_argv[i]; i++)
		printf("argument %d is \"%s\"\n", i, own_argv[i]);
	status = 7;
}

/* clang-format off */
static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{ "twice", case_twice },
	{ "fifty", case_fifty },
	{ "multiple", case_multiple },
	{ "below", case_below },
	{ "host", case_host },
	{ "fails", case_fails },
	{ "fails_late", case_fails_late },
	{ "handler", case_handler },
	{ "root", case_root },
	{ "arguments", case_arguments },
	{ "fork", case_fork },
	{ "threads", case_threads },
	{ "crowd", case_crowd },
	{ "alone", case_alone },
	{ "profiled", case_profiled },
};
/* clang-format on */

int main(int argc, char **argv)
{
	int provided;
	MPI_Comm parent;

	self = argv[0];
	own_argv = argv;
	MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
	MPI_Comm_get_parent(&parent);
	if (parent != MPI_COMM_NULL)
		be_spawned(parent, argc, argv);
	for (size_t i = 0; parent == MPI_COMM_NULL && i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc > 1 && !strcmp(argv[1], cases[i].name)) {
			cases[i].run();
			if (!rank())
				puts("done");
		}
	}
	MPI_Finalize();
	return status;
}
