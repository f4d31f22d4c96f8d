/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel side as seen from user space: what this kernel can give, the loaded and
 * pinned BPF programs, and the memory that they share with us.
 *
 * Maps and links are pinned below <bpffs>/stallbox, so that recording goes on when the
 * agent is gone and the next one takes over. A pinned set whose layout or settings differ
 * is replaced, and that is said.
 */
#ifndef SB_RECORDER_PROBES_H
#define SB_RECORDER_PROBES_H

#include "bpf/events.h"
#include "bpf/ring.h"
#include "format/bundle.h"

#define PROBES_MAX_CPUS 1024
#define PROBES_MAX_MISSING 24
#define PROBES_MAX_PROGRAMS 48
#define PROBES_MAX_ESCALATED 16
#define PROBES_MAX_OPTIONAL 4

struct probes_options {
	uint64_t memory_bytes; /* both banks; 0: default */
	uint64_t offcpu_threshold_ns, irq_threshold_ns, syscall_threshold_ns;
	uint32_t sample_hz;
	const char *bpffs; /* "/sys/fs/bpf" */
	bool pin;	   /* false: recording ends with the agent */
	enum sb_user_unwind user_unwind;
	bool command_lines;
	uint64_t unwind_bytes; /* memory of the tables; 0: default */
};

/* What the agent's mapping process fills for walks by tables (bpf/unwind.bpf.h). */
enum probes_unwind_map {
	PROBES_UNWIND_SLOTS,
	PROBES_UNWIND_TABLES,
	PROBES_UNWIND_MAPS,
	PROBES_UNWIND_PROCS,
	PROBES_UNWIND_WANTED,
	PROBES_UNWIND_MAPS_COUNT,
};

struct probes_program {
	char name[16];
	uint32_t id;
	int fd;
};

struct probes {
	struct sb_config cfg;
	bool taken_over;   /* an earlier agent's recording goes on */
	bool replaced;	   /* a pinned set did not fit and was replaced */
	bool older;	   /* taken over, with the programs of another build */
	bool pinned;
	bool perf_links;   /* sampling survives the agent */
	char pin_dir[128];
	struct sb_control *control; /* mapped read-write */
	struct sb_cpu *cpus;	    /* mapped read-only, cfg.cpus elements */
	const uint8_t *rings;	    /* mapped read-only */
	const struct sb_task *tasks;
	size_t ring_stride;
	size_t map_bytes; /* kernel memory of all maps that are there from the start */
	const uint64_t *grown_bytes; /* and of what came since; NULL: nothing */
	size_t mapped_bytes; /* of it, what is mapped here and so part of our RSS */
	int hits_fd, iter_link_fd;
	int unwind_fd[PROBES_UNWIND_MAPS_COUNT]; /* -1: not walked by tables */
	int sampler_fd[PROBES_MAX_CPUS]; /* link or event; -1: none, or pinned */
	char online[256]; /* /sys/devices/system/cpu/online when the samplers were last looked at */
	int deadlines_fd; /* the program that sets the timers of in-kernel conditions; -1: no timers */
	int keep_fd[PROBES_MAX_CPUS + PROBES_MAX_PROGRAMS + 8]; /* links that are not pinned */
	size_t n_keep;
	struct probes_program program[PROBES_MAX_PROGRAMS];
	size_t n_programs;
	/* Programs too dear for steady state: loaded, attached while escalated. */
	struct {
		char name[32];
		int fd, link; /* link -1: not attached */
	} escalated[PROBES_MAX_ESCALATED];
	size_t n_escalated;
	/* Programs that the recorder does without above its CPU budget. */
	struct {
		char name[32];
		int fd, link; /* link -1: detached */
	} optional[PROBES_MAX_OPTIONAL];
	size_t n_optional;
	/* Evidence this kernel cannot give: name and why. Static texts. */
	struct bundle_kv missing[PROBES_MAX_MISSING];
	size_t n_missing;
	int64_t raised_from_rq, handled_from_rq; /* see struct sb_control */
};

/* Loads or takes over. On failure returns a negative errno and fills ret_error with what
 * is missing and, after a newline, what to do. */
int probes_open(const struct probes_options *o, struct probes *ret, char *ret_error,
		size_t error_len);
/* What is pinned below bpffs, whatever settings it was loaded with: for reading, no agent. Until
 * probes_leave() no agent starts. -ENOENT: nothing is pinned, -EBUSY: an agent runs, -ESTALE: of
 * another layout; ret_error as above. */
int probes_open_pinned(const char *bpffs, struct probes *ret, char *ret_error, size_t error_len);
void probes_leave(struct probes *p);
/* Is a recorder pinned that an agent with these options would replace instead of taking it over,
 * although its banks can be read? */
bool probes_would_replace(const struct probes_options *o);
/* Lets go; recording goes on if pinned. */
void probes_close(struct probes *p);
/* In a forked process: lets go of the links that the agent may want to end. */
void probes_forget_links(const struct probes *p);
/* Pid of another, living agent that uses the objects pinned below bpffs; 0: none. */
uint32_t probes_owner(const char *bpffs);
/* The kernel's id of a cgroup by its path below the root of the hierarchy that tasks are told
 * apart by (v1 memory where that is in use, else v2). 0: no such cgroup. */
uint64_t probes_cgroup_id(const struct probes *p, const char *path);
/* Has the kernel frozen a bank that nobody has taken? */
static inline bool probes_frozen(const struct sb_control *c)
{
	return !c->armed && c->freeze_ns;
}
/* The same of what is pinned below bpffs. */
bool probes_left_frozen(const char *bpffs);
/* Removes everything pinned below <bpffs>/stallbox. Returns how many files, or -errno. */
int probes_unpin(const char *bpffs);

/* Maps one of them, read-write, as large as cfg says; NULL where there is none. */
void *probes_map_unwind(const struct probes *p, enum probes_unwind_map which);
/* Address space for the slots of all tables, without memory. The pieces of an earlier agent are given up. */
void *probes_reserve_unwind(const struct probes *p);
/* Memory for piece i of it. 0 or a negative errno. */
int probes_grow_unwind(const struct probes *p, void *slots, uint32_t i);

static inline uint64_t probes_memory(const struct probes *p)
{
	return p->map_bytes + (p->grown_bytes ? __atomic_load_n(p->grown_bytes, __ATOMIC_RELAXED) : 0);
}

static inline const uint8_t *probes_ring(const struct probes *p, uint32_t bank, uint32_t cpu)
{
	return p->rings + ((size_t)bank * p->cfg.cpus + cpu) * p->ring_stride;
}

/* Records ever made, by enum sb_kind, over all CPUs. */
void probes_recorded(const struct probes *p, uint64_t ret[SB_KIND_SLOTS]);
/* Attaches, detaches the programs of the escalated window. `why`: bit t for each
 * enum sb_ktrigger_type that needs its programs all the time; 0 detaches all, ~0 attaches all. */
void probes_escalate(struct probes *p, uint32_t why);
/* CPUs that have come online get their sampler, where that is no tick: that of a CPU which was away is dead. Cheap where
 * nothing has changed. Returns how many. */
int probes_follow_cpus(struct probes *p);
/* The same for all that are online, whatever became of those they have. */
int probes_reopen_samplers(struct probes *p);
/* Puts a limit in force, enum sb_limit_step: what the steps up to this one say is left out.
 * 0, or a negative errno when a program could not be attached again: it is tried anew at the
 * next call. */
int probes_limit(struct probes *p, uint32_t step);
/* Time for which optional programs were detached, since recording began. */
uint64_t probes_detached_ns(const struct probes *p);
/* Notes a change of the limit where later agents and bundles find it. */
void probes_note_limit(struct probes *p, const struct sb_limit_note *n);
/* Sets the timers of control->trigger[] anew. 0, also where the kernel has no timers (that is
 * in `missing`), or a negative errno: then the sampler alone looks. */
int probes_set_deadlines(const struct probes *p);
void probes_arm(struct probes *p);
/* Seals the current bank from user space. Returns false when the kernel was faster. */
bool probes_seal(struct probes *p);
/* The other bank records from now on (the end of the post-trigger window). */
void probes_flip(struct probes *p);

#endif
