/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layers of a disk that is in use: a stack that grows and is merged while it is read and
 * written.
 *
 * What the disk is made of at one moment is a struct levels, which never changes. Who reads or
 * writes holds a reference to the present one for that long; who changes the disk makes another. A
 * reader may so go on with a stack of a moment ago, whose layers stay open until it is done, and
 * that reads the same. A writer may not: before a layer counts as frozen, those who write into it
 * are waited for. Readers never are, since they may wait for pages of another host.
 *
 * For any number of threads. One lock, held for some instructions at a time, and nothing is locked
 * under it.
 */
#ifndef HOST_VDISK_STACK_H
#define HOST_VDISK_STACK_H

#include "host/vdisk/layer.h"

struct stack;

/* A reference to this is got and put by the functions below. */
struct levels {
	struct layer *layers[VDISK_MAX_LAYERS];	/* from the bottom up */
	unsigned count;
	unsigned fixed;		/* 1: layer 0 is a base or inherited */
	unsigned refs;		/* under the stack's lock */
};

/* Return: an empty stack, the caller's to destroy when nobody has a reference; or NULL (errno). */
struct stack *stack_create(uint64_t bytes);
void stack_destroy(struct stack *stack);
uint64_t stack_bytes(const struct stack *stack);

/* The present one. Return: never NULL. */
struct levels *stack_get(struct stack *stack);
void stack_put(struct stack *stack, struct levels *levels);

/* The present one, to write into its top. As long as it is held that is not frozen: be quick. */
struct levels *stack_get_write(struct stack *stack);
void stack_put_write(struct stack *stack, struct levels *levels);

/* For layers_read() and its like. */
static inline const struct layer *const *levels_layers(const struct levels *levels)
{
	return (const struct layer *const *)levels->layers;
}

/* Are these layers such that nobody writes into them any more? */
static inline bool levels_frozen(const struct levels *levels, unsigned first, unsigned count)
{
	unsigned frozen = levels->count > levels->fixed ? levels->count - 1 : levels->count;

	return first <= frozen && count <= frozen - first;
}

/* Can requests be served: is the top writable? */
bool levels_ready(const struct levels *levels);

/*
 * One more layer, on top (at first: at the bottom), taken over if it works; when this returns
 * nobody writes into the one below. Return: 0; -ENOSPC: there are too many; -ENOMEM.
 */
int stack_push(struct stack *stack, const struct layer *layer);

/* The same of a base or inherited one, which must be the first. Return: 0, -EINVAL or -ENOMEM. */
int stack_push_fixed(struct stack *stack, const struct layer *layer);

/*
 * Puts one layer, taken over if it works, in the place of `count`, frozen and with the same content
 * together. Return: 0 or -ENOMEM.
 */
int stack_replace(struct stack *stack, unsigned first, unsigned count, const struct layer *layer);

/* What all layers but a base or inherited one take, in bytes. */
uint64_t stack_own_bytes(struct stack *stack);

#endif
