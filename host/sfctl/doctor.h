/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The checks of sfctl doctor. */
#ifndef HOST_SFCTL_DOCTOR_H
#define HOST_SFCTL_DOCTOR_H

#define DOCTOR_TEXT_BYTES 256

enum doctor_state {
	DOCTOR_OK,
	DOCTOR_LESS,	/* works, but not all or not fast */
	DOCTOR_MISSING, /* nothing works without it */
};

/* What a check found: in `found` what there is, in `advice` how to get what is missing. */
struct doctor_result {
	enum doctor_state state;
	char found[DOCTOR_TEXT_BYTES];
	char advice[DOCTOR_TEXT_BYTES];
};

void doctor_kernel(struct doctor_result *result);
void doctor_rights(struct doctor_result *result);
void doctor_memory(struct doctor_result *result);
void doctor_userfaultfd(struct doctor_result *result);
void doctor_qemu(struct doctor_result *result);
void doctor_accel(struct doctor_result *result);
void doctor_network(struct doctor_result *result);
void doctor_outside(struct doctor_result *result);
void doctor_programs(struct doctor_result *result);
void doctor_guest(struct doctor_result *result);

/* Fill in a result. */
void doctor_found(struct doctor_result *result, enum doctor_state state, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void doctor_advise(struct doctor_result *result, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
