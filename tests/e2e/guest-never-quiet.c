/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: the agent is stopped right after it passed on a clone request, so that it never
 * gets quiet. sf_clone() says ETIMEDOUT; the VM goes on, and clones when it is asked again.
 *
 * The agent is traced: that stops it behind the very system call that sends the request.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sf.h>

#define HOLD_S 7 /* longer than sfd waits for an agent */

static pid_t find_agent(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	pid_t found = 0;

	while (proc && !found && (e = readdir(proc))) {
		char path[300], name[32] = "";
		FILE *comm;

		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		comm = fopen(path, "r");
		if (comm && fgets(name, sizeof(name), comm) && !strcmp(name, "sf-agent\n"))
			found = (pid_t)atoi(e->d_name);
		if (comm)
			fclose(comm);
	}
	closedir(proc);
	return found;
}

/* True at the entry of a write() whose bytes hold a clone request. */
static int sends_request(pid_t agent)
{
	static const char word[] = "\0clone ";
	char bytes[4096];
	struct user_regs_struct regs;
	struct iovec local = { bytes, sizeof(bytes) }, remote;
	ssize_t got;

	if (ptrace(PTRACE_GETREGS, agent, NULL, &regs) || regs.orig_rax != SYS_write)
		return 0;
	remote.iov_base = (void *)regs.rsi;
	remote.iov_len = local.iov_len = regs.rdx < sizeof(bytes) ? regs.rdx : sizeof(bytes);
	got = process_vm_readv(agent, &local, 1, &remote, 1, 0);
	return got > 0 && memmem(bytes, (size_t)got, word, sizeof(word) - 1);
}

/* Lets the agent run to its next system call, or out of it. Return: 0 if it is there. */
static int step(pid_t agent, int *signal)
{
	int status;

	if (ptrace(PTRACE_SYSCALL, agent, NULL, (void *)(long)*signal) ||
	    waitpid(agent, &status, __WALL) != agent || !WIFSTOPPED(status))
		return -1;
	*signal = WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
	return 0;
}

static void *hold_agent(void *arg)
{
	pid_t agent = find_agent();
	int status, signal = 0, held = 0;

	if (!agent || ptrace(PTRACE_SEIZE, agent, NULL, (void *)PTRACE_O_TRACESYSGOOD) ||
	    ptrace(PTRACE_INTERRUPT, agent, NULL, NULL) ||
	    waitpid(agent, &status, __WALL) != agent) {
		perror("cannot trace the agent");
		exit(1);
	}
	*(volatile int *)arg = 1;
	while (!held && !step(agent, &signal))
		held = !signal && sends_request(agent);
	step(agent, &signal); /* out of the call: the request is on its way */
	sleep(HOLD_S);
	ptrace(PTRACE_DETACH, agent, NULL, (void *)(long)signal);
	return NULL;
}

int main(void)
{
	volatile int traced = 0;
	pthread_t tracer;
	int id;

	pthread_create(&tracer, NULL, hold_agent, (void *)&traced);
	while (!traced)
		usleep(1000);
	id = sf_clone(1);
	if (id != -1 || errno != ETIMEDOUT) {
		printf("sf_clone: %d, %s\n", id, id < 0 ? sf_error() : "no error");
		return 1;
	}
	printf("told: %s\n", sf_error());
	pthread_join(tracer, NULL);
	id = sf_clone(2);
	if (id > 0)
		sf_exit(0);
	if (id < 0 || sf_join()) {
		printf("afterwards: %s\n", sf_error());
		return 1;
	}
	puts("goes on");
	return 0;
}
