/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Serves sfctl (proto/control.h) on the daemon's UNIX socket. */
#ifndef HOST_SFD_CONTROL_H
#define HOST_SFD_CONTROL_H

#include "host/sfd/daemon.h"

struct control;
struct peer_request;

/* Return: 0, or -errno with a sentence. */
int control_start(struct daemon *d, char why[WHY_BYTES]);
/* Ends the connections, and the VMs they booted. */
void control_stop(struct daemon *d);
/* After the last callback. */
void control_free_server(struct daemon *d);

/* Sends an event; takes the reference. */
void control_event(struct control *c, json_t *event);

/* Answers a request, later than it came; `request` is borrowed, `msg` taken. */
void control_reply(struct control *c, json_t *request, json_t *msg);
void control_refuse(struct control *c, json_t *request, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* What streams bring. `clone`: the ID of the clone whose output it is, 0: the guest's. */
void control_data(struct control *c, uint32_t stream, unsigned channel, unsigned clone,
		  const void *bytes, size_t len);
/* Answers a host, which may then send more, once this connection has not too much unread. */
void control_reply_when_read(struct control *c, struct peer_request *request);
void control_credit(struct control *c, uint32_t stream, unsigned channel, uint32_t bytes);
/* What a VM without an agent prints on its console. */
void control_console(struct control *c, const char *vm, const void *bytes, size_t len);
void control_stored(struct control *c, uint32_t stream, int error);
void control_exited(struct control *c, uint32_t stream, int status);

#endif
