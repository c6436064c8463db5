/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sf-mpirun: an MPI program in clones of this VM.
 *
 * The keeper makes the clones; Hydra's mpiexec starts the ranks there, by sf-mpilaunch, and is
 * followed here: signals go to it, its exit status is ours. It reads standard input itself, and for
 * that stays in our process group where standard input is a terminal; what the terminal sends to
 * the group has then reached it, and is not sent again. Otherwise it has a group of its own, so
 * that every signal reaches it once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/sf.h"
#include "mpi-shim/door.h"
#include "mpi-shim/mpirun.h"
#include "mpi-shim/wire.h"

#define PATIENCE_NS   (10ull * 1000000000) /* from the first signal to the end by force */
#define SAME_NS	      (1ull * 1000000000)  /* a signal again so soon is no second one */
#define ENDED_WAIT_NS (60ull * 1000000000) /* for the clones to be gone */

/* Those that are passed on. The first four ask for an end. */
static const int forwarded[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
#define ENDING 4

struct run {
	pid_t mpiexec;	/* 0: not any more */
	int status;	/* of it, as of wait(2) */
	bool own_group; /* mpiexec is in a process group of its own */
	int signals;	/* a signalfd */
	int sock;	/* to the keeper, or -1 */
	uint32_t group; /* of clones, while sock is open */
	bool lost;	/* a clone, with ranks in it */
	int asked;	/* the signal that asked for an end, or 0 */
	uint64_t asked_ns;
};

static bool progress_wanted, progress_shown;

static void progress_clear(void)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	progress_shown = false;
}

static void progress(const char *what, unsigned count, const char *of)
{
	if (!progress_wanted)
		return;
	fprintf(stderr, "\r\033[Ksf-mpirun: %s %u %s …", what, count, of);
	progress_shown = true;
}

static int fail(const char *what, const char *why)
{
	progress_clear();
	fprintf(stderr, "sf-mpirun: %s%s%s\n", what, why ? ": " : "", why ? why : "");
	return EXIT_MPIRUN;
}

/* ── Clones ── */

/* Whose address Hydra's proxies connect to. Return: 0 or EXIT_MPIRUN after a sentence. */
static int own_address(char address[SF_ADDRESS_BYTES])
{
	int id = sf_id();

	if (id < 0 || (!id && sf_address(0, address, SF_ADDRESS_BYTES)))
		return fail(sf_error(), NULL);
	if (id > 0)
		return fail("this VM is a clone", "run sf-mpirun in the VM that was booted");
	return 0;
}

/* How many hosts a list names. */
static unsigned count_hosts(const char *hosts)
{
	unsigned count = 1;

	while ((hosts = strchr(hosts, ',')))
		hosts++, count++;
	return count;
}

/* Gets the clones. Return: 0 and *hosts, the caller's to free(); or EXIT_MPIRUN after a sentence.
 */
static int get_clones(struct run *run, const struct mpirun_options *o, char **hosts)
{
	_cleanup_free_ char *sentence = NULL;
	struct mpi_grant grant;
	int error;

	run->sock = door_open(MPI_ASKER);
	if (run->sock < 0)
		return fail("cannot reach or start the keeper of the clones", strerror(-run->sock));
	progress("cloning this VM for", o->want.ranks, o->want.ranks == 1 ? "rank" : "ranks");
	error = door_want(run->sock, &o->want, &run->group, &grant, hosts, &sentence);
	progress_clear();
	if (error)
		return fail(sentence ? sentence : "no clones", sentence ? NULL : strerror(-error));
	if (grant.clones < grant.wanted)
		fprintf(stderr, "sf-mpirun: %u clones instead of %u: %u ranks share %s\n",
			grant.clones, grant.wanted, o->want.ranks,
			grant.clones == 1 ? "it" : "them");
	return 0;
}

/* Something from the keeper. Return: true if the group is no more. */
static bool hear(struct run *run)
{
	_cleanup_free_ uint8_t *payload = NULL;
	struct mpi_frame frame;
	struct mpi_lost lost;
	int error = wire_receive(run->sock, &frame, &payload);

	if (error) {
		fail("the keeper of the clones has ended",
		     error == -EPIPE ? NULL : strerror(-error));
		cleanup_close(&run->sock);
		run->sock = -1;
		return true;
	}
	if (frame.type == MPI_LOST && frame.length > sizeof(lost)) {
		memcpy(&lost, payload, sizeof(lost));
		if (lost.commands) /* sf-mpilaunch has said it */
			run->lost = true;
		else
			fail((const char *)payload + sizeof(lost), NULL);
	}
	if (frame.type != MPI_ENDED || frame.number != run->group)
		return false;
	cleanup_close(&run->sock);
	run->sock = -1;
	return true;
}

/* ── mpiexec ── */

static sigset_t followed_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (unsigned i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	return set;
}

/* In the child: becomes mpiexec. */
static void become(const struct run *run, char **words, pid_t parent)
{
	sigset_t set = followed_signals();

	if (run->own_group)
		setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_MPIRUN);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	execv(words[0], words);
	fprintf(stderr, "sf-mpirun: cannot start %s: %s\n", words[0], strerror(errno));
	_exit(EXIT_MPIRUN);
}

/* Return: 0 or EXIT_MPIRUN after a sentence. */
static int start(struct run *run, char **words)
{
	sigset_t set = followed_signals();
	pid_t self = getpid();

	signal(SIGCHLD, SIG_DFL); /* whoever ignored it before us: its end must be told */
	sigprocmask(SIG_BLOCK, &set, NULL);
	run->signals = signalfd(-1, &set, SFD_CLOEXEC);
	run->own_group = !isatty(STDIN_FILENO);
	if (run->signals < 0)
		return fail("signals", strerror(errno));
	run->mpiexec = fork();
	if (!run->mpiexec)
		become(run, words, self);
	if (run->mpiexec > 0)
		return 0;
	run->mpiexec = 0;
	return fail("cannot start mpiexec", strerror(errno));
}

static bool asks_for_end(int number)
{
	for (unsigned i = 0; i < ENDING; i++) {
		if (forwarded[i] == number)
			return true;
	}
	return false;
}

/* Passes a signal on. The second that asks for an end gets it. */
static void pass_on(struct run *run, const struct signalfd_siginfo *info)
{
	int number = (int)info->ssi_signo;
	bool again = run->asked && io_now_ns() - run->asked_ns > SAME_NS;
	/* the terminal's driver tells the whole group */
	bool has_it = !run->own_group && info->ssi_code == SI_KERNEL;

	if (asks_for_end(number) && again)
		kill(run->mpiexec, SIGKILL);
	else if (!has_it)
		kill(run->mpiexec, number);
	if (asks_for_end(number) && !run->asked) {
		run->asked = number;
		run->asked_ns = io_now_ns();
	}
}

/* Takes a signal. Return: its number. */
static int take_signal(struct run *run)
{
	struct signalfd_siginfo info;

	if (read(run->signals, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (info.ssi_signo != SIGCHLD) {
		if (run->mpiexec)
			pass_on(run, &info);
	} else if (run->mpiexec && waitpid(run->mpiexec, &run->status, WNOHANG) == run->mpiexec) {
		run->mpiexec = 0;
	}
	return (int)info.ssi_signo;
}

/* Milliseconds until an instant, for poll(). */
static int until(uint64_t instant_ns)
{
	uint64_t now_ns = io_now_ns();

	return now_ns >= instant_ns ? 0 : (int)((instant_ns - now_ns) / 1000000) + 1;
}

/* Follows mpiexec to its end. */
static void follow(struct run *run)
{
	while (run->mpiexec) {
		struct pollfd fds[] = { { .fd = run->signals, .events = POLLIN },
					{ .fd = run->sock, .events = POLLIN } };
		int limit = run->asked ? until(run->asked_ns + PATIENCE_NS) : -1;
		int ready = poll(fds, ARRAY_SIZE(fds), limit);

		if (!ready && run->mpiexec) {
			kill(run->mpiexec, SIGKILL);
			run->asked_ns = io_now_ns();
		}
		if (ready <= 0)
			continue;
		if (fds[0].revents)
			take_signal(run);
		if (fds[1].revents)
			hear(run);
	}
}

/* Has the clones ended, and waits for that. A signal that asks for an end ends the wait. */
static void end_clones(struct run *run, unsigned clones)
{
	uint64_t limit_ns = io_now_ns() + ENDED_WAIT_NS;
	int ready = 1;

	if (run->sock < 0 || wire_send(run->sock, MPI_END, run->group, NULL))
		return;
	progress("ending", clones, clones == 1 ? "clone" : "clones");
	while (run->sock >= 0 && ready) {
		struct pollfd fds[] = { { .fd = run->signals, .events = POLLIN },
					{ .fd = run->sock, .events = POLLIN } };

		ready = poll(fds, ARRAY_SIZE(fds), until(limit_ns));
		if (ready > 0 && fds[0].revents && asks_for_end(take_signal(run)))
			break;
		if (ready > 0 && fds[1].revents)
			hear(run);
	}
	if (!ready)
		fail("the clones have not ended yet", "they are left to the keeper");
	progress_clear();
}

/* What to exit with. */
static int result(const struct run *run)
{
	bool well = WIFEXITED(run->status) && !WEXITSTATUS(run->status);

	if (run->asked && !well)
		return 128 + run->asked;
	if (WIFEXITED(run->status))
		return WEXITSTATUS(run->status);
	return run->lost ? EXIT_MPIRUN : 128 + WTERMSIG(run->status);
}

/* Return: the exit status. */
static int run_hydra(struct run *run, const struct mpirun_options *o,
		     const struct mpirun_paths *paths, const char *hosts, const char *address)
{
	_cleanup_free_ char **words = hydra_words(o, paths, hosts, address);
	int status;

	if (!words || hydra_environment(o, paths))
		return fail("no memory", NULL);
	status = start(run, words);
	if (!status) {
		follow(run);
		status = result(run);
	}
	end_clones(run, count_hosts(hosts));
	return status;
}

/* Return: the exit status. */
static int mpirun(const struct mpirun_options *o)
{
	struct run run = { .sock = -1, .signals = -1 };
	char address[SF_ADDRESS_BYTES];
	_cleanup_free_ char *hosts = NULL;
	struct mpirun_paths paths;
	int status = own_address(address);

	if (status || hydra_find(o, &paths))
		return EXIT_MPIRUN;
	if (!o->here)
		status = get_clones(&run, o, &hosts);
	else if (asprintf(&hosts, "%s:%u", address, o->want.ranks) < 0)
		status = fail("no memory", NULL);
	if (!status)
		status = run_hydra(&run, o, &paths, hosts, address);
	cleanup_close(&run.sock);
	cleanup_close(&run.signals);
	return status;
}

/* Gives a standard descriptor that is closed something to be, before a socket becomes it. */
static void open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	struct mpirun_options options = { 0 };
	char name[] = "sf-mpirun";
	int status;

	open_standard();
	argv[0] = name;
	mpirun_parse(&options, argc, argv);
	progress_wanted = !options.quiet && isatty(STDERR_FILENO);
	status = mpirun(&options);
	mpirun_options_fini(&options);
	return status;
}
