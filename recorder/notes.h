/* SPDX-License-Identifier: BSD-2-Clause */
/* GNU build-ids of the running kernel and its modules, as sysfs shows their ELF notes. */
#ifndef SB_RECORDER_NOTES_H
#define SB_RECORDER_NOTES_H

#include "format/base.h"

/* path: of a file that holds nothing but notes. Length of the id, at most len; 0: none. */
size_t notes_build_id(const char *path, uint8_t *ret, size_t len);

#endif
