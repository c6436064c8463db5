/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stack of a disk's layers: references, changes, waiting for writers. */
#include "config.h"

#include "host/vdisk/stack.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A layer and how many struct levels have it; `layer` is what they point to. */
struct held {
	struct layer layer;
	unsigned refs;		/* these two under the stack's lock */
	unsigned writers;
};

struct stack {
	uint64_t bytes;
	pthread_mutex_t lock;
	pthread_cond_t written;	/* a layer lost its last writer */
	struct levels *present;	/* holds one of its references */
};

static struct held *held_of(struct layer *layer)
{
	return (struct held *)layer;	/* its first member */
}

struct stack *stack_create(uint64_t bytes)
{
	struct stack *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->present = calloc(1, sizeof(*s->present));
	if (!s->present) {
		free(s);
		errno = ENOMEM;
		return NULL;
	}
	s->present->refs = 1;
	s->bytes = bytes;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->written, NULL);
	return s;
}

uint64_t stack_bytes(const struct stack *stack)
{
	return stack->bytes;
}

/*
 * Takes one reference away, under the lock. Return: the levels if that was the last: to be freed
 * without the lock; else NULL. Layers that nobody has any more stay in it, the others become NULL.
 */
static struct levels *unref(struct levels *levels)
{
	if (--levels->refs)
		return NULL;
	for (unsigned i = 0; i < levels->count; i++) {
		if (--held_of(levels->layers[i])->refs)
			levels->layers[i] = NULL;
	}
	return levels;
}

static void levels_free(struct levels *levels)
{
	for (unsigned i = 0; levels && i < levels->count; i++) {
		if (!levels->layers[i])
			continue;
		layer_close(levels->layers[i]);
		free(held_of(levels->layers[i]));
	}
	free(levels);
}

void stack_destroy(struct stack *stack)
{
	if (!stack)
		return;
	levels_free(unref(stack->present));
	pthread_cond_destroy(&stack->written);
	pthread_mutex_destroy(&stack->lock);
	free(stack);
}

/* Under the lock. Return: NULL if there is none. */
static struct held *top_of(const struct levels *levels)
{
	return levels->count ? held_of(levels->layers[levels->count - 1]) : NULL;
}

static struct levels *get(struct stack *stack, bool write)
{
	struct levels *levels;

	pthread_mutex_lock(&stack->lock);
	levels = stack->present;
	levels->refs++;
	if (write && levels->count)
		top_of(levels)->writers++;
	pthread_mutex_unlock(&stack->lock);
	return levels;
}

static void put(struct stack *stack, struct levels *levels, bool write)
{
	pthread_mutex_lock(&stack->lock);
	if (write && levels->count && !--top_of(levels)->writers)
		pthread_cond_broadcast(&stack->written);
	levels = unref(levels);
	pthread_mutex_unlock(&stack->lock);
	levels_free(levels);
}

struct levels *stack_get(struct stack *stack)
{
	return get(stack, false);
}

void stack_put(struct stack *stack, struct levels *levels)
{
	put(stack, levels, false);
}

struct levels *stack_get_write(struct stack *stack)
{
	return get(stack, true);
}

void stack_put_write(struct stack *stack, struct levels *levels)
{
	put(stack, levels, true);
}

bool levels_ready(const struct levels *levels)
{
	return levels->count && levels->layers[levels->count - 1]->writable;
}

/* `old` with a layer in the place of `count` of them; under the lock. */
static void levels_copy(struct levels *next, const struct levels *old, unsigned first,
			unsigned count, struct held *held)
{
	memcpy(next->layers, old->layers, first * sizeof(next->layers[0]));
	next->layers[first] = &held->layer;
	memcpy(&next->layers[first + 1], &old->layers[first + count],
	       (old->count - first - count) * sizeof(next->layers[0]));
	next->count = old->count - count + 1;
	next->fixed = old->fixed;
	next->refs = 1;
	for (unsigned i = 0; i < next->count; i++)
		held_of(next->layers[i])->refs++;
}

/* Whether a layer may come there; -1 of `first` is the top. Return: 0 or -errno. */
static int judge(const struct levels *old, int first, bool fixed)
{
	if (fixed)
		return old->count ? -EINVAL : 0;
	return first < 0 && old->count >= VDISK_MAX_LAYERS ? -ENOSPC : 0;
}

/* Makes `next` the present one. Return: 0 or -errno, and then nothing has changed. */
static int change(struct stack *stack, struct levels *next, struct held *held, int first,
		  unsigned count, bool fixed)
{
	struct levels *old;
	struct held *top;
	int error;

	pthread_mutex_lock(&stack->lock);
	old = stack->present;
	error = judge(old, first, fixed);
	if (!error) {
		top = first < 0 ? top_of(old) : NULL;
		levels_copy(next, old, first < 0 ? old->count : (unsigned)first, count, held);
		next->fixed |= fixed;
		stack->present = next;
		/* it stays while it is waited for: it could be merged after this call alone */
		while (top && top->writers)
			pthread_cond_wait(&stack->written, &stack->lock);
		old = unref(old);
	}
	pthread_mutex_unlock(&stack->lock);
	if (!error)
		levels_free(old);
	return error;
}

static int put_in(struct stack *stack, const struct layer *layer, int first, unsigned count,
		  bool fixed)
{
	struct levels *next = calloc(1, sizeof(*next));
	struct held *held = calloc(1, sizeof(*held));
	int error = -ENOMEM;

	if (next && held) {
		held->layer = *layer;
		error = change(stack, next, held, first, count, fixed);
	}
	if (error) {
		free(next);
		free(held);
	}
	return error;
}

int stack_push(struct stack *stack, const struct layer *layer)
{
	return put_in(stack, layer, -1, 0, false);
}

int stack_push_fixed(struct stack *stack, const struct layer *layer)
{
	return put_in(stack, layer, -1, 0, true);
}

int stack_replace(struct stack *stack, unsigned first, unsigned count, const struct layer *layer)
{
	return put_in(stack, layer, (int)first, count, false);
}

uint64_t stack_own_bytes(struct stack *stack)
{
	struct levels *levels = stack_get(stack);
	uint64_t bytes = 0;

	for (unsigned i = levels->fixed; i < levels->count; i++)
		bytes += layer_taken_bytes(levels->layers[i]);
	stack_put(stack, levels);
	return bytes;
}
