/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl clean: removes what a crash left.
 *
 * A cluster lives as long as one of its daemons does, by its pid file or by the marks SF_CLUSTER
 * and SF_HOST in a daemon's environment. Of a cluster that does not, everything goes: processes
 * with its mark, namespaces, folders. Interfaces and tables in this namespace go if no daemon runs
 * in it.
 */
#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/cluster.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/proc.h"
#include "host/sfctl/text.h"
#include "host/vnet/embed.h"
#include "host/vnet/vnet.h"

#define DAEMON_NAME "sfd"
#define KILL_MS 5000

struct clean {
	bool dry_run;
	bool some; /* only the clusters named */
	struct proc *procs;
	unsigned proc_count;
	unsigned removed;
	bool failed;
	char **clusters; /* seen, with a folder or with namespaces or with processes */
	unsigned cluster_count;
};

/* Tells of one thing that goes. */
static void report(struct clean *clean, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void report(struct clean *clean, const char *format, ...)
{
	va_list args;

	clean->removed++;
	fputs(clean->dry_run ? "would remove " : "removed ", stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static void failed(struct clean *clean, const char *what, int error)
{
	clean->failed = true;
	complain("cannot remove %s: %s", what, strerror(error));
}

/* Notes a cluster, once. */
static void note(const char *cluster, void *arg)
{
	struct clean *clean = arg;
	char **more;

	if (!cluster_name_valid(cluster))
		return;
	for (unsigned i = 0; i < clean->cluster_count; i++) {
		if (!strcmp(clean->clusters[i], cluster))
			return;
	}
	more = reallocarray(clean->clusters, clean->cluster_count + 1, sizeof(*more));
	if (!more)
		return;
	clean->clusters = more;
	more[clean->cluster_count] = strdup(cluster);
	clean->cluster_count += more[clean->cluster_count] != NULL;
}

static void find_clusters(struct clean *clean)
{
	char **names;
	unsigned count;

	if (!cluster_names(&names, &count)) {
		for (unsigned i = 0; i < count; i++)
			note(names[i], clean);
		names_free(names, count);
	}
	embed_list(note, clean);
	for (unsigned i = 0; i < clean->proc_count; i++)
		note(clean->procs[i].cluster, clean);
}

static bool is_daemon(const struct proc *proc)
{
	return !strcmp(proc->name, DAEMON_NAME);
}

/* Does a daemon of the cluster live? */
static bool is_alive(const struct clean *clean, const char *cluster)
{
	_cleanup_free_ struct host_folder *folders = NULL;
	unsigned count;

	for (unsigned i = 0; i < clean->proc_count; i++) {
		if (!strcmp(clean->procs[i].cluster, cluster) && is_daemon(&clean->procs[i]))
			return true;
	}
	if (cluster_folders(cluster, &folders, &count))
		return true; /* not known: left alone */
	for (unsigned i = 0; i < count; i++) {
		if (folders[i].alive)
			return true;
	}
	return false;
}

static void clean_processes(struct clean *clean, const char *cluster)
{
	for (unsigned i = 0; i < clean->proc_count; i++) {
		const struct proc *proc = &clean->procs[i];

		if (strcmp(proc->cluster, cluster))
			continue;
		if (clean->dry_run || proc_end(proc->pid, proc->start_ticks, SIGKILL, KILL_MS))
			report(clean, "process %d (%s) of %s %s", (int)proc->pid, proc->name,
			       cluster, proc->host);
		else
			failed(clean, proc->name, ETIME);
	}
}

static void clean_namespaces(struct clean *clean, const char *cluster)
{
	int count;

	if (!cluster_is_embedded(cluster))
		return;
	count = clean->dry_run ? 1 : embed_destroy(cluster);
	if (clean->dry_run)
		report(clean, "the namespaces of %s", cluster);
	else if (count > 0)
		report(clean, "%d namespaces of %s", count, cluster);
}

static void clean_folder(struct clean *clean, const char *cluster)
{
	char dir[PATH_MAX];
	int error = 0;

	cluster_path(cluster, NULL, dir);
	if (access(dir, F_OK))
		return;
	if (!clean->dry_run)
		error = folder_remove(dir);
	if (error)
		failed(clean, dir, -error);
	else
		report(clean, "%s", dir);
}

static void clean_cluster(struct clean *clean, const char *cluster)
{
	_cleanup_fd_ int lock = -1;
	int error = cluster_lock(cluster, &lock);

	if (error == -EBUSY)
		return; /* it is being started */
	if (is_alive(clean, cluster)) {
		fprintf(stderr, "cluster \"%s\" is up: left alone\n", cluster);
		return;
	}
	clean_processes(clean, cluster);
	clean_namespaces(clean, cluster);
	clean_folder(clean, cluster);
}

/* Does a process live in our network namespace? */
static bool shares_network(pid_t pid)
{
	char path[64];
	struct stat ours, its;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return !stat("/proc/self/ns/net", &ours) && !stat(path, &its) &&
	       ours.st_ino == its.st_ino && ours.st_dev == its.st_dev;
}

static unsigned count_interfaces(void)
{
	struct if_nameindex *list = if_nameindex();
	unsigned count = 0;

	for (unsigned i = 0; list && list[i].if_name; i++)
		count += !strncmp(list[i].if_name, VNET_NAME_PREFIX, strlen(VNET_NAME_PREFIX));
	if_freenameindex(list);
	return count;
}

static void clean_network(struct clean *clean)
{
	unsigned removed = 0;
	int error;

	for (unsigned i = 0; i < clean->proc_count; i++) {
		if (is_daemon(&clean->procs[i]) && shares_network(clean->procs[i].pid))
			return;
	}
	if (clean->dry_run)
		removed = count_interfaces();
	error = clean->dry_run ? 0 : vnet_clean(&removed);
	if (error)
		failed(clean, "interfaces and tables", -error);
	if (removed)
		report(clean, "%u interfaces and tables of this machine's network", removed);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct clean *clean = state->input;

	switch (key) {
	case 'n': clean->dry_run = true; return 0;
	case ARGP_KEY_ARG:
		if (!cluster_name_valid(arg))
			argp_error(state, "\"%s\" is no name of a cluster", arg);
		clean->some = true;
		note(arg, clean);
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

int cmd_clean(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "dry-run", 'n', NULL, 0, "only tell what would be removed", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[CLUSTER...]",
		.doc = "Remove what clusters whose daemons are dead left on this machine: "
		       "processes, namespaces, folders; and, if no cluster is named, interfaces "
		       "and tables in this machine's own network. Clusters that are up are left alone."
	};
	struct clean clean = { 0 };
	int error;

	(void)ctl;
	argp_parse(&argp, argc, argv, 0, NULL, &clean);
	if (geteuid()) {
		complain("clean needs root");
		return EXIT_TROUBLE;
	}
	error = proc_find(&clean.procs, &clean.proc_count);
	if (error) {
		complain("cannot read /proc: %s", strerror(-error));
		return EXIT_TROUBLE;
	}
	if (!clean.some)
		find_clusters(&clean);
	for (unsigned i = 0; i < clean.cluster_count; i++)
		clean_cluster(&clean, clean.clusters[i]);
	if (!clean.some)
		clean_network(&clean);
	if (!clean.dry_run)
		rmdir(run_dir());
	if (!clean.removed && !clean.failed)
		puts("nothing to remove");
	names_free(clean.clusters, clean.cluster_count);
	free(clean.procs);
	return clean.failed ? EXIT_TROUBLE : 0;
}
