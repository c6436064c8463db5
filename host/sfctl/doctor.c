/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl doctor: the table of checks, and its report. The checks themselves try, they do not guess.
 */
#include "host/sfctl/doctor.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/cleanup.h"
#include "host/sfctl/sfctl.h"
#include "host/sfctl/table.h"

static const struct {
	const char *name;
	void (*check)(struct doctor_result *result);
} checks[] = {
	{ "kernel", doctor_kernel },
	{ "rights", doctor_rights },
	{ "memory", doctor_memory },
	{ "userfaultfd", doctor_userfaultfd },
	{ "qemu", doctor_qemu },
	{ "accelerator", doctor_accel },
	{ "network", doctor_network },
	{ "way outside", doctor_outside },
	{ "own programs", doctor_programs },
	{ "guest image", doctor_guest },
};

static const char *const state_names[] = { "ok", "less", "missing" };

void doctor_found(struct doctor_result *result, enum doctor_state state, const char *format, ...)
{
	va_list args;

	result->state = state;
	va_start(args, format);
	vsnprintf(result->found, sizeof(result->found), format, args);
	va_end(args);
}

void doctor_advise(struct doctor_result *result, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(result->advice, sizeof(result->advice), format, args);
	va_end(args);
}

static void print_result(const char *name, const struct doctor_result *result)
{
	printf("%-13s %-8s %s\n", name, state_names[result->state], result->found);
	if (*result->advice)
		printf("%22s → %s\n", "", result->advice);
	fflush(stdout);
}

int cmd_doctor(struct sfctl *ctl, int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse_nothing,
		.children = listing_options,
		.doc = "Say what this machine lacks to be a host, and how to get it. Exits with 1 if "
		       "something is missing that nothing works without."
	};
	json_t *rows = json_array();
	bool missing = false;

	argp_parse(&argp, argc, argv, 0, NULL, ctl);
	for (unsigned i = 0; i < ARRAY_SIZE(checks); i++) {
		struct doctor_result result = { 0 };

		checks[i].check(&result);
		missing |= result.state == DOCTOR_MISSING;
		if (!ctl->json)
			print_result(checks[i].name, &result);
		json_array_append_new(rows,
				      json_pack("{s:s, s:s, s:s, s:s}", "name", checks[i].name,
						"state", state_names[result.state], "found",
						result.found, "advice", result.advice));
	}
	if (ctl->json)
		print_json(rows);
	json_decref(rows);
	return missing ? EXIT_TROUBLE : 0;
}
