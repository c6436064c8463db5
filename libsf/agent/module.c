/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The device is open for as long as a question takes, or from SFK_PREPARE until the guest goes on:
 * the module can be unloaded at any other time. That it comes and goes is heard by inotify on the
 * device's folder, which costs nothing while nothing happens there.
 */
#include "agent/module.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

#define FOLDER_EVENTS (IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM)

/* Asks the module where its window is. Return: 0 or -errno. */
static int ask_window(int fd, struct agent_window *window)
{
	struct sfk_where where;

	if (ioctl(fd, SFK_WHERE, &where))
		return -errno;
	if (where.version != SFK_VERSION || !where.pages || where.pages > SFK_MAX_WINDOW_PAGES)
		return -EPROTONOSUPPORT;
	*window = (struct agent_window){ .gfn = where.gfn, .pages = where.pages };
	return 0;
}

/* Opens the device. Return: the descriptor, with the window in *window, or -errno. */
static int open_device(const struct module *module, struct agent_window *window)
{
	_cleanup_fd_ int fd = open(module->path, O_RDWR | O_CLOEXEC);
	int error;

	if (fd < 0)
		return -errno;
	error = ask_window(fd, window);
	return error ? error : steal_fd(&fd);
}

/* Says what there is, or what it means that there is nothing. `error`: 0 or -errno. */
static void tell(const struct module *module, int error)
{
	if (!error) {
		log_info("kernel module: version %u, window of %llu pages at page %#llx",
			 SFK_VERSION, (unsigned long long)module->window.pages,
			 (unsigned long long)module->window.gfn);
		return;
	}
	if (error != -ENOENT)
		log_warn("kernel module: %s: %s", module->path, strerror(-error));
	log_warn("no kernel module: in a clone, address and clock are set late, from user space; "
		 "connections of the parent hang until they time out; the kernel's random numbers "
		 "are mixed anew late; unused memory is fetched like any other");
}

/* Return: true if that is another window than before. */
static bool look(struct module *module, int *error)
{
	struct agent_window window = { .pages = 0 };
	int fd = open_device(module, &window);
	bool other;

	*error = fd < 0 ? fd : 0;
	if (fd >= 0)
		close(fd);
	other = memcmp(&window, &module->window, sizeof(window)) != 0;
	module->window = window;
	return other;
}

static void folder_ready(struct source *source, uint32_t events)
{
	struct module *module = (struct module *)source;	/* its first member */
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool named = false;
	ssize_t got;
	int error;

	(void)events;
	while ((got = read(source->fd, buf, sizeof(buf))) > 0) {
		const struct inotify_event *event;

		for (char *at = buf; at < buf + got; at += sizeof(*event) + event->len) {
			event = (const struct inotify_event *)at;
			named |= event->mask & IN_Q_OVERFLOW ||
				 (event->len && !strcmp(event->name, module->name));
		}
	}
	if (!named || !look(module, &error))
		return;
	tell(module, error);
	module->changed(module->arg);
}

/* Return: a descriptor that tells of changes in the device's folder, or -errno. */
static int watch_folder(const struct module *module)
{
	_cleanup_free_ char *folder = strndup(module->path, (size_t)(module->name - module->path));
	_cleanup_fd_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (!folder)
		return -ENOMEM;
	if (fd < 0 || inotify_add_watch(fd, *folder ? folder : ".", FOLDER_EVENTS) < 0)
		return -errno;
	return steal_fd(&fd);
}

void module_init(struct module *module, struct loop *loop, const char *path,
		 void (*changed)(void *arg), void *arg)
{
	const char *slash = strrchr(path, '/');
	int fd, error;

	*module = (struct module){ .loop = loop, .path = path, .name = slash ? slash + 1 : path,
				   .fd = -1, .changed = changed, .arg = arg };
	module->folder = (struct source){ .fd = -1, .ready = folder_ready };
	fd = watch_folder(module);
	if (fd >= 0) {
		module->folder.fd = fd;
		loop_watch(loop, &module->folder, EPOLLIN);
	} else {
		log_warn("kernel module: %s: cannot tell when it comes or goes: %s", path,
			 strerror(-fd));
	}
	look(module, &error);
	tell(module, error);
}

bool module_is_there(const struct module *module)
{
	return module->window.pages;
}

int module_prepare(struct module *module, uint64_t op, const char *nic,
		   struct agent_window *window)
{
	struct sfk_prepare prepare = { .op = op };
	_cleanup_fd_ int fd = open_device(module, window);

	if (fd < 0)
		return fd;
	if (strlen(nic) >= sizeof(prepare.nic))
		return -ENODEV;
	memcpy(prepare.nic, nic, strlen(nic));
	if (ioctl(fd, SFK_PREPARE, &prepare))
		return -errno;
	module->fd = steal_fd(&fd);
	return 0;
}

int module_hold(const struct module *module, struct sfk_held *held)
{
	return ioctl(module->fd, SFK_HOLD, held) ? -errno : 0;
}

void module_release(struct module *module)
{
	if (module->fd < 0)
		return;
	close(module->fd);
	module->fd = -1;
}
