/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of the kernel addresses that a bundle uses. The kernel's own text stays where it is as long as
 * the machine runs: its names are at hand before a freeze and are part of the raw bundle. Modules and
 * BPF programs come and go: theirs are looked up when the bundle is stored.
 */
#ifndef SB_RECORDER_KERNEL_NAMES_H
#define SB_RECORDER_KERNEL_NAMES_H

#include "recorder/freeze.h"
#include "symbols/symbols.h"

enum kernel_names_of { KERNEL_NAMES_OWN_TEXT, KERNEL_NAMES_ALL };

/* Writes the names of those that have none yet into f->w. Returns how many are left without. */
size_t kernel_names_write(struct freeze *f, const struct symbols *s, enum kernel_names_of which);

#endif
