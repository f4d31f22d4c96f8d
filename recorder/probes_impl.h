/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of probes.h, for recorder/probes*.c and tracepoints.c alone: what the parts call of each
 * other. Functions return 0 or a negative errno, descriptors are the caller's, unless it says so. */
#ifndef SB_RECORDER_PROBES_IMPL_H
#define SB_RECORDER_PROBES_IMPL_H

#include "recorder/probes.h"

/* ---- probes.c ---- */

/* Nothing is open yet. pinned: or to be pinned, below bpffs. */
void probes_init(struct probes *p, const char *bpffs, bool pinned);
void probes_fail_text(char *err, size_t len, const char *what, int r, const char *hint);
/* Static texts. A second one of the same name is not noted. */
void probes_add_missing(struct probes *p, const char *what, const char *why);
/* NULL: it cannot be mapped. */
void *probes_map(int fd, size_t len, int prot);
size_t probes_page_up(size_t n);
int probes_map_shared(struct probes *p, int control, int cpus, int rings, int tasks);
struct sb_config probes_wanted_config(const struct probes_options *o, uint32_t cpus);
void probes_note_program(struct probes *p, int fd);

/* ---- probes_pins.c ---- */

int pins_ensure_bpffs(const char *bpffs);
/* A descriptor, or a negative errno. */
int pins_get(const struct probes *p, const char *name);
/* Nothing where p is not pinned. */
int pins_put(struct probes *p, const char *name, int fd);
void pins_remove(const struct probes *p, const char *prefix, const char *name);
void pins_note_owner(struct sb_control *c);
/* -ENOENT: no whole set is pinned, -ESTALE: one of another layout or of other settings. */
int pins_take_over(struct probes *p, uint64_t hash, char *err, size_t len);

/* ---- probes_samplers.c ---- */

int samplers_attach(struct probes *p, int prog_fd, char *err, size_t len);
bool samplers_pinned(const struct probes *p);
void samplers_read_online(char *ret, size_t len);
void samplers_revive(struct probes *p);

/* ---- probes_switch.c: descriptors that are kept become p's ---- */

bool programs_is_optional(const char *program);
bool programs_is_escalated(const char *program);
void programs_keep_optional(struct probes *p, const char *program, int fd, int link);
int programs_keep_escalated(struct probes *p, const char *program, int fd);
/* The same of what an earlier agent has pinned. */
void programs_take_escalated(struct probes *p, const char *program, int fd);
void programs_take_optional(struct probes *p, const char *program, int fd, int link);
void programs_take_limited(struct probes *p, const char *program);

/* ---- probes_unwind.c ---- */

struct bpf_map;
struct bpf_object;
/* What of the wish this build and this kernel can do. */
void unwind_choose(const struct probes_options *o, struct sb_config *cfg);
void unwind_note_missing(struct probes *p, const struct probes_options *o);
size_t unwind_bytes(const struct sb_config *cfg); /* kernel memory of its maps, without the tables */
/* *model_fd: -1, becomes a map that has to be open while the object is loaded. */
int unwind_set_size(struct bpf_map *m, const struct sb_config *cfg, int *model_fd);
/* obj: takes the maps from there and pins them; NULL: from the pins. */
int unwind_keep(struct probes *p, const struct bpf_object *obj);
void unwind_close(struct probes *p);

#endif
