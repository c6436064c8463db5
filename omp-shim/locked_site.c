/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A locked instruction, taken apart (Intel SDM vol. 2, 2.1). All that may be locked, and xchg, have
 * one shape: prefixes, an opcode of one byte or 0f and one, ModRM with the operand in memory, and
 * perhaps an immediate. The copy has the same with another ModRM: the memory that %rdi points to, or
 * %rsi if %rdi is the instruction's other operand; none of them uses one of both unsaid.
 */
#define _GNU_SOURCE
#include "omp-shim/locked_site.h"

#include <string.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
#define REX_W 8
#define REX_R 4
#define REX_X 2
#define REX_B 1
#define TWO_BYTES 0x0f00u /* an opcode behind 0f */

struct parts { /* of an instruction */
	uint8_t rex;		/* 0: none */
	bool locked, narrow, word, tls;
	unsigned opcode;
	size_t opcode_at, modrm_at, behind; /* `behind` the address: an immediate, or the end */
};

static bool is_prefix(uint8_t byte)
{
	return (byte & 0xe7) == 0x26 || (byte >= 0x64 && byte <= 0x67) || byte == 0xf0 ||
	       byte == 0xf2 || byte == 0xf3;
}

static void note_prefix(struct parts *parts, uint8_t byte)
{
	parts->locked |= byte == 0xf0;
	parts->tls |= byte == 0x64 || byte == 0x65;
	parts->word |= byte == 0x66;
	parts->narrow |= byte == 0x67;
}

/* Return: how many bytes SIB and displacement have, behind ModRM at `code`. */
static size_t address_bytes(const uint8_t *code, size_t left)
{
	uint8_t mod = code[0] >> 6, rm = code[0] & 7;
	bool sib = mod != 3 && rm == 4;

	if (mod == 1)
		return sib + 1u;
	if (mod == 2)
		return sib + 4u;
	if (mod == 0 && (rm == 5 || (sib && left > 1 && (code[1] & 7) == 5)))
		return sib + 4u;
	return sib;
}

/* Return: false if it ends too early. */
static bool split(struct parts *parts, const uint8_t *code, size_t length)
{
	size_t at = 0;

	memset(parts, 0, sizeof(*parts));
	while (at < length && is_prefix(code[at]))
		note_prefix(parts, code[at++]);
	if (at < length && (code[at] & 0xf0) == 0x40)
		parts->rex = code[at++];
	parts->opcode_at = at;
	if (at < length && code[at] == 0x0f) {
		at++;
		parts->opcode = TWO_BYTES;
	}
	if (at + 1 >= length)
		return false;
	parts->opcode |= code[at++];
	parts->modrm_at = at;
	parts->behind = at + 1 + address_bytes(code + at, length - at);
	return parts->behind <= length;
}

/* Return: true of opcodes that `lock` may stand before (SDM: LOCK). */
static bool is_lockable(unsigned opcode)
{
	static const unsigned rest[] = {
		0x80,	0x81,	0x83,	0x86,	0x87,	0xf6,	0xf7,	0xfe,	0xff,	0x0fab,
		0x0fb0, 0x0fb1, 0x0fb3, 0x0fba, 0x0fbb, 0x0fc0, 0x0fc1, 0x0fc7,
	};

	if (opcode < 0x38)
		return (opcode & 7) < 2; /* add or adc sbb and sub xor, register to memory */
	for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++)
		if (opcode == rest[i])
			return true;
	return false;
}

static bool is_atomic(const struct parts *parts, const uint8_t *code)
{
	bool exchange = parts->opcode == 0x86 || parts->opcode == 0x87;

	return code[parts->modrm_at] >> 6 != 3 && is_lockable(parts->opcode) &&
	       (parts->locked || exchange);
}

static bool is_mfence(const uint8_t *code, size_t length)
{
	return length >= 3 && code[0] == 0x0f && code[1] == 0xae && code[2] == 0xf0;
}

bool site_may_begin(const uint8_t *code, size_t left)
{
	uint8_t room[15] = { 0 };
	struct parts parts;

	if (*code == 0x0f)
		return is_mfence(code, left);
	if (*code != 0xf0 && (*code & 0xfe) != 0x86) /* xchg; what stands before it does not matter */
		return false;
	/* what lies behind the end does not matter: it is only a guess */
	memcpy(room, code, left < sizeof(room) ? left : sizeof(room));
	return split(&parts, room, sizeof(room)) && is_atomic(&parts, room);
}

static uint8_t operand_bytes(const struct parts *parts)
{
	bool wide = parts->rex & REX_W;

	if (parts->opcode == 0x0fc7)
		return wide ? 16 : 8;
	if (!(parts->opcode & 1) && parts->opcode != 0x0fba)
		return 1;
	return wide ? 8 : parts->word ? 2 : 4;
}

static void read_address(struct locked_site *site, const struct parts *parts, const uint8_t *code)
{
	const uint8_t *at = code + parts->modrm_at;
	uint8_t mod = *at >> 6, rm = *at & 7;
	bool far = mod == 2;

	at++;
	site->base = rm | (parts->rex & REX_B ? 8 : 0);
	site->index = SITE_NONE;
	if (rm == 4) {
		site->scale = *at >> 6;
		site->index = (*at >> 3 & 7) | (parts->rex & REX_X ? 8 : 0);
		if (site->index == RSP)
			site->index = SITE_NONE;
		site->base = (*at & 7) | (parts->rex & REX_B ? 8 : 0);
		if (mod == 0 && (*at & 7) == 5) {
			site->base = SITE_NONE;
			far = true;
		}
		at++;
	} else if (mod == 0 && rm == 5) {
		site->base = SITE_RIP;
		far = true;
	}
	if (far)
		memcpy(&site->displacement, at, sizeof(site->displacement));
	else if (mod == 1)
		site->displacement = (int8_t)*at;
}

/* Prefixes but those of an address, REX without its parts, opcode, ModRM, immediate, ret. */
static void write_copy(const struct locked_site *site, const struct parts *parts,
		       const uint8_t *code, uint8_t *copy)
{
	size_t at;

	for (at = 0; at < parts->opcode_at; at++) {
		if ((code[at] & 0xf0) == 0x40)
			*copy++ = code[at] & (uint8_t)~(REX_X | REX_B);
		else if (code[at] == 0xf0 || code[at] == 0x66 || code[at] == 0xf2 ||
			 code[at] == 0xf3)
			*copy++ = code[at];
	}
	while (at < parts->modrm_at)
		*copy++ = code[at++];
	*copy++ = (code[at] & 0x38) | site->pointer;
	for (at = parts->behind; at < site->length; at++)
		*copy++ = code[at];
	*copy = 0xc3; /* ret */
}

bool site_read(struct locked_site *site, uint64_t address, const uint8_t *code, size_t length,
	       uint8_t copy[SITE_COPY_BYTES])
{
	struct parts parts;

	memset(site, 0, sizeof(*site));
	memset(copy, 0xcc, SITE_COPY_BYTES);
	site->address = address;
	site->length = (uint8_t)length;
	if (is_mfence(code, length)) {
		site->kind = SITE_FENCE;
		return true;
	}
	if (length >= SITE_COPY_BYTES || !split(&parts, code, length) || !is_atomic(&parts, code) ||
	    parts.tls)
		return false;
	read_address(site, &parts, code);
	site->bytes = operand_bytes(&parts);
	site->narrow = parts.narrow;
	site->other = (code[parts.modrm_at] >> 3 & 7) | (parts.rex & REX_R ? 8 : 0);
	site->bit_string = parts.opcode == 0x0fab || parts.opcode == 0x0fb3 ||
			   parts.opcode == 0x0fbb;
	site->pointer = site->other == RDI ? RSI : RDI;
	/* an extension of the opcode may have %rsp's number as well: then it is none */
	if (site->other == RSP && (site->bytes > 1 || parts.rex) && parts.opcode != 0x80 &&
	    parts.opcode != 0x81 && parts.opcode != 0x83 && parts.opcode != 0x0fba)
		site->kind = SITE_UNKNOWN;
	write_copy(site, &parts, code, copy);
	return true;
}

/* -- running ---------------------------------------------------------------------------------- */

/* Numbers of the processor → places in gregs. */
static const uint8_t place_of[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8,	 REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

/* Of a bit string: how many bytes from its beginning the operand is that has the bit. */
static int64_t bit_offset(const struct locked_site *site, const greg_t *registers)
{
	int64_t bit = registers[place_of[site->other]];

	if (site->bytes == 2)
		bit = (int16_t)bit;
	else if (site->bytes == 4)
		bit = (int32_t)bit;
	return (bit >> (site->bytes == 2 ? 4 : site->bytes == 4 ? 5 : 6)) * site->bytes;
}

uint64_t site_operand(const struct locked_site *site, const greg_t *registers)
{
	uint64_t address = (uint64_t)(int64_t)site->displacement;

	if (site->base == SITE_RIP)
		address += site->address + site->length;
	else if (site->base != SITE_NONE)
		address += (uint64_t)registers[place_of[site->base]];
	if (site->index != SITE_NONE)
		address += (uint64_t)registers[place_of[site->index]] << site->scale;
	if (site->narrow)
		address = (uint32_t)address;
	if (site->bit_string)
		address += (uint64_t)bit_offset(site, registers);
	return address;
}

/*
 * void site_jump(greg_t *registers, const uint8_t *copy): loads all registers but %rsp, and the
 * flags, calls the copy, and puts what they are then back. Numbers are 8 * REG_….
 */
void site_jump(greg_t *registers, const uint8_t *copy);
asm(".pushsection .text\n"
    ".hidden site_jump\n"
    ".globl site_jump\n"
    ".type site_jump, @function\n"
    "site_jump:\n"
    "	pushq %rbx\n"
    "	pushq %rbp\n"
    "	pushq %r12\n"
    "	pushq %r13\n"
    "	pushq %r14\n"
    "	pushq %r15\n"
    "	pushq %rdi\n"
    "	pushq %rsi\n"
    "	pushq 136(%rdi)\n"
    "	popfq\n"
    "	movq 0(%rdi), %r8\n"
    "	movq 8(%rdi), %r9\n"
    "	movq 16(%rdi), %r10\n"
    "	movq 24(%rdi), %r11\n"
    "	movq 32(%rdi), %r12\n"
    "	movq 40(%rdi), %r13\n"
    "	movq 48(%rdi), %r14\n"
    "	movq 56(%rdi), %r15\n"
    "	movq 72(%rdi), %rsi\n"
    "	movq 80(%rdi), %rbp\n"
    "	movq 88(%rdi), %rbx\n"
    "	movq 96(%rdi), %rdx\n"
    "	movq 104(%rdi), %rax\n"
    "	movq 112(%rdi), %rcx\n"
    "	movq 64(%rdi), %rdi\n"
    "	call *(%rsp)\n"
    "	pushq %rdi\n"
    "	movq 16(%rsp), %rdi\n"
    "	movq %r8, 0(%rdi)\n"
    "	movq %r9, 8(%rdi)\n"
    "	movq %r10, 16(%rdi)\n"
    "	movq %r11, 24(%rdi)\n"
    "	movq %r12, 32(%rdi)\n"
    "	movq %r13, 40(%rdi)\n"
    "	movq %r14, 48(%rdi)\n"
    "	movq %r15, 56(%rdi)\n"
    "	movq %rsi, 72(%rdi)\n"
    "	movq %rbp, 80(%rdi)\n"
    "	movq %rbx, 88(%rdi)\n"
    "	movq %rdx, 96(%rdi)\n"
    "	movq %rax, 104(%rdi)\n"
    "	movq %rcx, 112(%rdi)\n"
    "	popq 64(%rdi)\n"
    "	pushfq\n"
    "	popq 136(%rdi)\n"
    "	addq $16, %rsp\n"
    "	popq %r15\n"
    "	popq %r14\n"
    "	popq %r13\n"
    "	popq %r12\n"
    "	popq %rbp\n"
    "	popq %rbx\n"
    "	ret\n"
    ".size site_jump, . - site_jump\n"
    ".popsection\n");
_Static_assert(REG_R8 == 0 && REG_RDI == 8 && REG_RCX == 14 && REG_EFL == 17, "site_jump");

#define ARITHMETIC 0x8d5 /* flags: CF PF AF ZF SF OF */

void site_run(const struct locked_site *site, const uint8_t *copy, greg_t *registers, void *operand)
{
	greg_t work[REG_EFL + 1];
	uint8_t pointer = place_of[site->pointer];
	uint64_t at = (uint64_t)(uintptr_t)operand;

	if (site->bit_string)
		at -= (uint64_t)bit_offset(site, registers);
	memcpy(work, registers, sizeof(work));
	work[pointer] = (greg_t)at;
	work[REG_EFL] = (registers[REG_EFL] & ARITHMETIC) | 0x202;
	site_jump(work, copy);
	work[pointer] = registers[pointer];
	work[REG_EFL] = (registers[REG_EFL] & ~ARITHMETIC) | (work[REG_EFL] & ARITHMETIC);
	memcpy(registers, work, sizeof(work));
}
