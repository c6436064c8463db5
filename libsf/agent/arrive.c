/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Arrival of clones, by UDP. One socket, made in the VM that boots: ID 0 hears its clones on it,
 * and a clone, which inherits it, sends from it.
 */
#include "agent/arrive.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "proto/agent-socket.h"

#define FIRST_WAIT_MS 20u
#define LONGEST_WAIT_MS 1000u
#define LAST_SLOT 65535u	/* addresses of a segment, at most */

static void set_timer(struct arrive *arrive, unsigned ms)
{
	struct itimerspec when = { .it_value = { ms / 1000, (long)(ms % 1000) * 1000000 } };

	if (!ms && !arrive->timer.active)
		return;
	timerfd_settime(arrive->timer.fd, 0, &when, NULL);
	loop_watch(arrive->loop, &arrive->timer, ms ? EPOLLIN : 0);
}

/* Says it once more, or gives up. */
static void tell_again(struct arrive *arrive)
{
	struct agent_arrived message = { htole32(AGENT_ARRIVED_MAGIC), htole32(arrive->id) };

	if (!arrive->tries_left) {
		log_warn("arrival: ID 0 did not answer");
		set_timer(arrive, 0);
		return;
	}
	arrive->tries_left--;
	/* a network that is not there yet is asked again like one that loses the datagram */
	sendto(arrive->socket.fd, &message, sizeof(message), 0,
	       (struct sockaddr *)&arrive->parent, sizeof(arrive->parent));
	set_timer(arrive, arrive->wait_ms);
	arrive->wait_ms *= 2;
	if (arrive->wait_ms > LONGEST_WAIT_MS)
		arrive->wait_ms = LONGEST_WAIT_MS;
}

static void timer_ready(struct source *source, uint32_t events)
{
	struct arrive *arrive = (struct arrive *)((char *)source - offsetof(struct arrive, timer));
	uint64_t count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) > 0)
		tell_again(arrive);
}

/* ID 0: a clone says it has arrived. Tickets overlap: its address tells which one with its ID. */
static void hear(struct arrive *arrive, const struct agent_arrived *message,
		 const struct sockaddr_in *from)
{
	bool first = le32toh(message->magic) == AGENT_ARRIVED_FIRST;
	uint32_t id = le32toh(message->id);
	uint32_t slot = ntohl(from->sin_addr.s_addr) - ntohl(arrive->parent.sin_addr.s_addr);

	if (!id || !slot || slot > LAST_SLOT)
		return;
	if (!arrive->answered(arrive->arg, id, slot) || first)
		return;
	sendto(arrive->socket.fd, message, sizeof(*message), MSG_DONTWAIT,
	       (const struct sockaddr *)from, sizeof(*from));
}

static void socket_ready(struct source *source, uint32_t events)
{
	struct arrive *arrive = (struct arrive *)source;	/* its first member */
	struct agent_arrived message;
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	ssize_t got = recvfrom(source->fd, &message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC,
			       (struct sockaddr *)&from, &from_len);

	(void)events;
	if (got != sizeof(message) || (le32toh(message.magic) != AGENT_ARRIVED_MAGIC &&
				       le32toh(message.magic) != AGENT_ARRIVED_FIRST))
		return;
	if (!arrive->id)
		hear(arrive, &message, &from);
	else if (le32toh(message.id) == arrive->id &&
		 le32toh(message.magic) == AGENT_ARRIVED_MAGIC &&
		 from.sin_addr.s_addr == arrive->parent.sin_addr.s_addr)
		set_timer(arrive, 0);
}

static int open_socket(struct arrive *arrive, uint16_t port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	_cleanup_fd_ int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd < 0 || timer < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)))
		return -errno;
	arrive->socket.fd = steal_fd(&fd);
	arrive->timer.fd = steal_fd(&timer);
	loop_watch(arrive->loop, &arrive->socket, EPOLLIN);
	return 0;
}

int arrive_as(struct arrive *arrive, uint32_t id, uint32_t parent, uint16_t port)
{
	if (arrive->socket.fd >= 0)
		set_timer(arrive, 0);
	arrive->id = id;
	arrive->parent = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port),
					       .sin_addr = { parent } };
	if (!port || arrive->socket.fd >= 0)
		return 0;
	return open_socket(arrive, port);
}

int arrive_tell(struct arrive *arrive)
{
	if (arrive->socket.fd < 0)
		return -ENETUNREACH;
	arrive->tries_left = AGENT_ARRIVED_TRIES;
	arrive->wait_ms = FIRST_WAIT_MS;
	tell_again(arrive);
	return 0;
}

void arrive_later(struct arrive *arrive)
{
	if (arrive->socket.fd < 0)
		return;
	arrive->tries_left = AGENT_ARRIVED_TRIES - 1;
	arrive->wait_ms = FIRST_WAIT_MS;
	set_timer(arrive, AGENT_ARRIVED_AGAIN_MS);
}

void arrive_init(struct arrive *arrive, struct loop *loop,
		 bool (*answered)(void *arg, uint32_t id, uint32_t slot), void *arg)
{
	*arrive = (struct arrive){ .loop = loop, .answered = answered, .arg = arg };
	arrive->socket = (struct source){ .fd = -1, .ready = socket_ready };
	arrive->timer = (struct source){ .fd = -1, .ready = timer_ready };
}
