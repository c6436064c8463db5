/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UDP sockets on libevent: one for what is sent to us, one for what is sent to groups. */
#include "config.h"

#include "host/mcdist/udp.h"

#include <errno.h>
#include <event2/event.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "proto/mcdist.h"

#define RECEIVE_AT_ONCE 8
#define RECEIVE_ROUNDS 4		/* before others have their turn */
#define SOCKET_BUFFER_BYTES (4 << 20)	/* asked for; the system may give less */
#define BUFFER_BYTES_PER_PAGE 12288u	/* of a socket buffer, with fragments and book-keeping */
#define WINDOW_PAGES_MAX 512u
#define GROUP_TTL 1			/* this link and no other */

struct udp {
	struct mc_transport transport;
	struct event_base *base;
	int sock, group_sock;
	sa_family_t family;
	struct event *readable, *writable, *group_readable;
	uint8_t *received;	/* RECEIVE_AT_ONCE datagrams */
};

static struct udp *udp_of(struct mc_transport *t)
{
	return (struct udp *)t;
}

/* Receives once. Return: true if there may be more. */
static bool receive_some(struct udp *u, int sock)
{
	struct mmsghdr messages[RECEIVE_AT_ONCE] = { 0 };
	struct iovec buffers[RECEIVE_AT_ONCE];
	struct mc_address from[RECEIVE_AT_ONCE];
	int got;

	for (unsigned i = 0; i < RECEIVE_AT_ONCE; i++) {
		/* one byte more, so that a datagram that is too long is seen to be */
		buffers[i].iov_base = u->received + i * (MC_MAX_DATAGRAM + 1);
		buffers[i].iov_len = MC_MAX_DATAGRAM + 1;
		messages[i].msg_hdr.msg_iov = &buffers[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &from[i].at;
		messages[i].msg_hdr.msg_namelen = sizeof(from[i].at);
	}
	got = recvmmsg(sock, messages, RECEIVE_AT_ONCE, MSG_DONTWAIT, NULL);
	for (int i = 0; i < got && u->transport.events; i++) {
		from[i].len = messages[i].msg_hdr.msg_namelen;
		u->transport.events->received(u->transport.arg, &from[i], buffers[i].iov_base,
					      messages[i].msg_len);
	}
	return got == RECEIVE_AT_ONCE;
}

static void on_readable(evutil_socket_t sock, short what, void *arg)
{
	(void)what;
	for (unsigned i = 0; i < RECEIVE_ROUNDS && receive_some(arg, sock); i++)
		;
}

static void on_writable(evutil_socket_t sock, short what, void *arg)
{
	struct udp *u = arg;

	(void)sock;
	(void)what;
	if (u->transport.events)
		u->transport.events->writable(u->transport.arg);
}

static uint64_t udp_now_ns(struct mc_transport *t)
{
	(void)t;
	return io_now_ns();
}

static int udp_send(struct mc_transport *t, const struct mc_address *to, const void *bytes,
		    size_t len)
{
	struct udp *u = udp_of(t);

	if (sendto(u->sock, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL,
		   (const struct sockaddr *)&to->at, to->len) >= 0)
		return 0;
	if (errno == EAGAIN)
		event_add(u->writable, NULL);
	return -errno;
}

/* The IPv4 address of this host that the socket is bound to. Return: 0 or -EADDRNOTAVAIL. */
static int own_address(int sock, struct in_addr *out)
{
	struct sockaddr_storage at;
	socklen_t len = sizeof(at);

	if (getsockname(sock, (struct sockaddr *)&at, &len) < 0)
		return -errno;
	if (at.ss_family == AF_INET) {
		*out = ((struct sockaddr_in *)&at)->sin_addr;
		return 0;
	}
	if (!IN6_IS_ADDR_V4MAPPED(&((struct sockaddr_in6 *)&at)->sin6_addr))
		return -EADDRNOTAVAIL;
	memcpy(out, &((struct sockaddr_in6 *)&at)->sin6_addr.s6_addr[12], sizeof(*out));
	return 0;
}

/* An IPv4 group, as itself or mapped. Return: 0 or -EAFNOSUPPORT. */
static int group_address(const struct mc_address *group, struct in_addr *out)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&group->at;

	if (group->at.ss_family == AF_INET)
		*out = ((const struct sockaddr_in *)&group->at)->sin_addr;
	else if (group->at.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		memcpy(out, &in6->sin6_addr.s6_addr[12], sizeof(*out));
	else
		return -EAFNOSUPPORT;
	return IN_MULTICAST(ntohl(out->s_addr)) ? 0 : -EAFNOSUPPORT;
}

static int udp_join(struct mc_transport *t, const struct mc_address *group, bool member)
{
	struct udp *u = udp_of(t);
	struct ip_mreqn r = { 0 };
	int error = own_address(u->sock, &r.imr_address);

	if (!error)
		error = group_address(group, &r.imr_multiaddr);
	if (error)
		return error;
	if (u->group_sock < 0)
		return -ENOTCONN;
	/* EADDRINUSE: a process before us has joined, and the socket has outlived it */
	if (setsockopt(u->group_sock, IPPROTO_IP, member ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP,
		       &r, sizeof(r)) < 0 && errno != EADDRINUSE)
		return -errno;
	return 0;
}

static void on_timer(evutil_socket_t sock, short what, void *arg)
{
	struct mc_timer *timer = arg;

	(void)sock;
	(void)what;
	timer->fire(timer->arg);
}

static int udp_timer_set(struct mc_transport *t, struct mc_timer *timer, uint64_t at_ns)
{
	struct udp *u = udp_of(t);
	uint64_t now_ns = io_now_ns(), wait_us;
	struct timeval wait;

	if (!timer->world)
		timer->world = event_new(u->base, -1, 0, on_timer, timer);
	if (!timer->world)
		return -ENOMEM;
	if (at_ns == MC_NEVER)
		return event_del(timer->world) ? -ENOMEM : 0;
	if (at_ns == MC_NEXT_TURN) {
		event_active(timer->world, EV_TIMEOUT, 0);
		return 0;
	}
	wait_us = at_ns > now_ns ? (at_ns - now_ns + 999) / 1000 : 0;
	wait.tv_sec = (time_t)(wait_us / 1000000);
	wait.tv_usec = (suseconds_t)(wait_us % 1000000);
	return event_add(timer->world, &wait) ? -ENOMEM : 0;
}

static void udp_timer_free(struct mc_transport *t, struct mc_timer *timer)
{
	(void)t;
	if (timer->world)
		event_free(timer->world);
	timer->world = NULL;
}

static int socket_option(int sock, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(sock, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

static uint32_t udp_window_pages(struct mc_transport *t)
{
	uint32_t pages =
		(uint32_t)socket_option(udp_of(t)->sock, SO_RCVBUF) / BUFFER_BYTES_PER_PAGE;

	return pages < WINDOW_PAGES_MAX ? pages : WINDOW_PAGES_MAX;
}

static uint64_t udp_unsent_bytes(struct mc_transport *t)
{
	int bytes = 0;

	return ioctl(udp_of(t)->sock, SIOCOUTQ, &bytes) < 0 || bytes < 0 ? 0 : (uint64_t)bytes;
}

static const struct mc_transport_calls udp_calls = {
	.now_ns = udp_now_ns,
	.send = udp_send,
	.join = udp_join,
	.timer_set = udp_timer_set,
	.timer_free = udp_timer_free,
	.window_pages = udp_window_pages,
	.unsent_bytes = udp_unsent_bytes,
};

static void make_room(int sock, int force, int option)
{
	int bytes = SOCKET_BUFFER_BYTES;

	if (socket_option(sock, option) >= 2 * bytes)
		return;
	if (setsockopt(sock, SOL_SOCKET, force, &bytes, sizeof(bytes)) < 0)
		setsockopt(sock, SOL_SOCKET, option, &bytes, sizeof(bytes));
}

/* What we send to groups goes out where our own address is, and does not come back to this host. */
static void aim_at_groups(int sock)
{
	struct ip_mreqn r = { 0 };
	int off = 0, ttl = GROUP_TTL;

	if (own_address(sock, &r.imr_address))
		return;
	setsockopt(sock, IPPROTO_IP, IP_MULTICAST_IF, &r, sizeof(r));
	setsockopt(sock, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof(off));
	setsockopt(sock, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof(ttl));
}

static bool is_udp(int sock)
{
	int family = socket_option(sock, SO_DOMAIN);

	return socket_option(sock, SO_TYPE) == SOCK_DGRAM &&
	       (family == AF_INET || family == AF_INET6);
}

static bool watch(struct udp *u, int sock, struct event **readable)
{
	int all = 0;

	make_room(sock, SO_RCVBUFFORCE, SO_RCVBUF);
	/* what others on this host have joined is not for us */
	setsockopt(sock, IPPROTO_IP, IP_MULTICAST_ALL, &all, sizeof(all));
	*readable = event_new(u->base, sock, EV_READ | EV_PERSIST, on_readable, u);
	return *readable && event_add(*readable, NULL) == 0;
}

struct mc_transport *mc_udp_create(struct event_base *base, int sock, int group_sock)
{
	struct udp *u;

	if (!is_udp(sock) || (group_sock >= 0 && !is_udp(group_sock))) {
		errno = EINVAL;
		return NULL;
	}
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->transport.calls = &udp_calls;
	u->base = base;
	u->sock = u->group_sock = -1;
	u->family = (sa_family_t)socket_option(sock, SO_DOMAIN);
	u->received = malloc(RECEIVE_AT_ONCE * (MC_MAX_DATAGRAM + 1));
	u->writable = event_new(base, sock, EV_WRITE, on_writable, u);
	if (!u->received || !u->writable || !watch(u, sock, &u->readable) ||
	    (group_sock >= 0 && !watch(u, group_sock, &u->group_readable))) {
		mc_udp_destroy(&u->transport);
		errno = ENOMEM;
		return NULL;
	}
	make_room(sock, SO_SNDBUFFORCE, SO_SNDBUF);
	aim_at_groups(sock);
	u->sock = sock;
	u->group_sock = group_sock;
	return &u->transport;
}

void mc_udp_destroy(struct mc_transport *transport)
{
	struct udp *u = udp_of(transport);

	if (!u)
		return;
	if (u->readable)
		event_free(u->readable);
	if (u->group_readable)
		event_free(u->group_readable);
	if (u->writable)
		event_free(u->writable);
	cleanup_close(&u->sock);
	cleanup_close(&u->group_sock);
	free(u->received);
	free(u);
}

bool mc_udp_address(const struct mc_transport *transport, const struct sockaddr_in6 *in6,
		    struct mc_address *out)
{
	const struct udp *u = (const struct udp *)transport;

	memset(out, 0, sizeof(*out));
	if (in6->sin6_family != AF_INET6 || !in6->sin6_port)
		return false;
	if (u->family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)&out->at;

		if (!IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
			return false;
		in->sin_family = AF_INET;
		in->sin_port = in6->sin6_port;
		memcpy(&in->sin_addr, &in6->sin6_addr.s6_addr[12], sizeof(in->sin_addr));
		out->len = sizeof(*in);
		return true;
	}
	memcpy(&out->at, in6, sizeof(*in6));
	out->len = sizeof(*in6);
	return true;
}
