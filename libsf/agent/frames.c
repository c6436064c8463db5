/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Frames from sfd: which part of the agent each is for. */
#include <errno.h>
#include <string.h>

#include "agent/agent.h"
#include "common/cleanup.h"
#include "common/log.h"

/*
 * What a handler gets. Return, all of them: 0, or -EPROTO: the host is broken. A stream that is not
 * known has ended here while the frame was on its way: nothing to be done.
 */
typedef int frame_fn(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload);

static int on_quiesce(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	(void)frame;
	return quiesce_begin(agent, (const struct agent_quiesce *)payload);
}

static int on_resume(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	(void)frame;
	return quiesce_end(agent, (const struct agent_resume *)payload);
}

/* True if a new stream may have this number. */
static bool is_free(const struct agent *agent, uint32_t stream)
{
	return stream && !(stream & AGENT_STREAM_OF_AGENT) &&
	       !exec_has(&agent->execs, stream) && !transfer_has(&agent->transfers, stream);
}

static int on_exec(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	int error = -EPROTO;

	if (is_free(agent, frame->stream))
		exec_begin(&agent->execs, frame->stream, payload, frame->length, &error);
	return error;
}

static int on_put(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	int error = -EPROTO;

	if (is_free(agent, frame->stream))
		transfer_put(&agent->transfers, frame->stream, payload, frame->length, &error);
	return error;
}

static int on_result(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	const struct agent_result *result = (const struct agent_result *)payload;
	int error = -EPROTO;

	if (is_free(agent, frame->stream))
		transfer_result(&agent->transfers, frame->stream, result, &error);
	return error;
}

static int on_data(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	int error = 0;

	if (frame->channel != AGENT_STDIN)
		return -EPROTO;
	if (!exec_data(&agent->execs, frame->stream, payload, frame->length, &error))
		transfer_data(&agent->transfers, frame->stream, payload, frame->length, &error);
	return error;
}

static int on_credit(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	uint32_t bytes = ((const struct agent_credit *)payload)->bytes;
	int error = 0;

	if (!exec_credit(&agent->execs, frame->stream, frame->channel, bytes, &error))
		transfer_credit(&agent->transfers, frame->stream, bytes, &error);
	return error;
}

static int on_stored(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	const struct agent_status *status = (const struct agent_status *)payload;

	transfer_stored(&agent->transfers, frame->stream, status->value);
	return 0;
}

static int on_signal(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	exec_signal(&agent->execs, frame->stream, ((const struct agent_status *)payload)->value);
	return 0;
}

static int on_winsize(struct agent *agent, const struct agent_frame *frame, const uint8_t *payload)
{
	exec_winsize(&agent->execs, frame->stream, (const struct agent_winsize *)payload);
	return 0;
}

#define EXACTLY(type) sizeof(type), sizeof(type)

static const struct frame_kind {
	frame_fn *handle;	/* NULL: not for the agent */
	uint32_t min_bytes, max_bytes;
} kinds[] = {
	[AGENT_QUIESCE] = { on_quiesce, EXACTLY(struct agent_quiesce) },
	[AGENT_RESUME] = { on_resume, EXACTLY(struct agent_resume) },
	[AGENT_EXEC] = { on_exec, sizeof(struct agent_exec), AGENT_MAX_FRAME },
	[AGENT_SIGNAL] = { on_signal, EXACTLY(struct agent_status) },
	[AGENT_WINSIZE] = { on_winsize, EXACTLY(struct agent_winsize) },
	[AGENT_PUT] = { on_put, sizeof(struct agent_put), AGENT_MAX_FRAME },
	[AGENT_RESULT] = { on_result, EXACTLY(struct agent_result) },
	[AGENT_STORED] = { on_stored, EXACTLY(struct agent_status) },
	[AGENT_DATA] = { on_data, 0, AGENT_MAX_DATA },
	[AGENT_CREDIT] = { on_credit, EXACTLY(struct agent_credit) },
	[AGENT_MODULE] = { NULL, 0, 0 },
};
_Static_assert(ARRAY_SIZE(kinds) == AGENT_TYPES, "a line for each type up to the last");

static int on_frame(void *arg, const struct agent_frame *frame, const uint8_t *payload)
{
	struct agent *agent = arg;
	const struct frame_kind *kind = &kinds[frame->type < ARRAY_SIZE(kinds) ? frame->type : 0];
	int error = -EPROTO;

	if (kind->handle && frame->length >= kind->min_bytes &&
	    frame->length <= kind->max_bytes &&
	    (agent->state == AGENT_RUNNING || frame->type == AGENT_RESUME))
		error = kind->handle(agent, frame, payload);
	if (error)
		log_err("frame type %u, stream %u, %u bytes: %s", frame->type, frame->stream,
			frame->length, strerror(-error));
	return error;
}

static void on_drained(void *arg)
{
	struct agent *agent = arg;

	if (agent->state == AGENT_RUNNING) {
		execs_drained(&agent->execs);
		transfers_drained(&agent->transfers);
	}
	quiesce_step(agent);
}

const struct port_handler agent_frames = {
	.frame = on_frame, .drained = on_drained, .flushed = quiesce_flushed
};
