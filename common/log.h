/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One line per event on standard error: level, object, sentence. Silent below the level chosen. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_LVL_ERR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* Sets the program's name for each line and the level: $SF_LOG (err, warn, info, debug) or `fallback`. */
void log_init(const char *program, enum log_level fallback);

/* True if a message of this level would be printed. */
bool log_enabled(enum log_level level);

/* Prints one line; errno is preserved. The format starts with the object, as in "vm 3: …". */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Arguments are not evaluated when the level is off. */
#define log_at(level, ...)                              \
	do {                                            \
		if (log_enabled(level))                 \
			log_line(level, __VA_ARGS__);   \
	} while (0)
#define log_err(...) log_at(LOG_LVL_ERR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LVL_DEBUG, __VA_ARGS__)

#endif
