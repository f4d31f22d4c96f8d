/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Triggers decide WHEN to freeze. One file per kind over one ops table; they
 * know no BPF, ring or file format. The agent owns the event loop: it polls the
 * descriptor that a trigger gives, calls check() when that is ready or when the
 * trigger's period has passed, and acts on the hit.
 *
 * Specification: KIND:ARGUMENTS, the same text on the command line and in the
 * configuration file. trigger_parse() documents every form.
 *
 * Functions return 0 or a negative errno unless stated. Nothing here logs; nothing
 * that the agent's loop calls (arm aside) blocks or allocates.
 */
#ifndef SB_TRIGGERS_TRIGGER_H
#define SB_TRIGGERS_TRIGGER_H

#include "format/base.h"
#include "triggers/host.h"
#include "triggers/limits.h"

#define TRIGGER_NAME_MAX 64
#define TRIGGER_SPEC_MAX 512
#define TRIGGER_DETAIL_MAX 256
#define TRIGGER_COMM_LEN 16 /* TASK_COMM_LEN */

struct trigger;

/* Why and by how much a trigger fired. */
struct trigger_hit {
	uint64_t fired_ns; /* CLOCK_MONOTONIC */
	double value, threshold;
	const char *unit;	/* static text: "%", "ms", "failures" */
	uint32_t target_tid;	/* 0: none */
	bool goes_on;		/* the condition of the last hit, which has not ended since */
	char detail[TRIGGER_DETAIL_MAX]; /* one line for people */
};

/* A condition that the kernel side evaluates (kernel:...). The agent hands it to BPF. */
enum trigger_kernel_type {
	TRIGGER_KERNEL_NONE = 0,
	TRIGGER_KERNEL_RECLAIM = 1, /* one reclaim span older than threshold, running or ended */
	TRIGGER_KERNEL_BLOCKED = 2, /* count threads in D state for longer than threshold */
	TRIGGER_KERNEL_MMAP_LOCK_WAIT = 3, /* a wait for the own mmap_lock, running or ended */
	TRIGGER_KERNEL_MMAP_LOCK_HOLD = 4, /* mmap_lock held, at its release; costs tracepoints */
	TRIGGER_KERNEL_RUNQ = 5,	   /* runnable and not running */
	TRIGGER_KERNEL_SOFTIRQ_DELAY = 6,  /* raise to entry; costs tracepoints */
	TRIGGER_KERNEL_SYSCALL = 7,	   /* samples in one call for longer than threshold */
	TRIGGER_KERNEL_RECLAIM_YIELD = 8,  /* reclaimed / scanned below percent */
	TRIGGER_KERNEL_SYSTEM = 9,	   /* sampled system time above percent, for threshold */
	TRIGGER_KERNEL_SOFTIRQ_HELD = 10,  /* a raised softirq waits for one system call to end */
};

struct trigger_kernel_condition {
	enum trigger_kernel_type type;
	uint64_t threshold_ns;
	uint32_t count;
	uint32_t percent;
	uint64_t held_ns;  /* BLOCKED: so many threads for so long */
	double hysteresis; /* BLOCKED and the percentages: as of the trigger */
	char comm[TRIGGER_COMM_LEN]; /* "" any */
	char cgroup[256];	     /* path below the cgroup root; "" any */
};

/* Where the triggers look; tests point them elsewhere. */
struct trigger_env {
	const char *proc;   /* "/proc" */
	const char *cgroup; /* cgroup v2 root, NULL where there is none */
	const char *cgroup_cpu; /* directory of the v1 cpu/cpuacct controller, NULL: none */
	bool have_sys_resource; /* CAP_SYS_RESOURCE: PSI triggers of any window */
	uint64_t (*now_ns)(void); /* CLOCK_MONOTONIC */
	/* /proc/stat some time ago, as somebody else has read it: the newest reading up to until_ns; false: none. NULL:
	 * nobody does. */
	bool (*cpu_before)(const void *reader, uint64_t until_ns, struct cpu_times *ret, uint64_t *ret_ns);
	const void *reader;
	void (*in_helper)(void);  /* called first in a process that a trigger forks; NULL: nothing */
};

struct trigger_env trigger_env_host(void);
/* CapEff of /proc/self/status: a bit for each of capabilities(7). */
unsigned long long capabilities_effective(void);

struct trigger_ops {
	const char *kind; /* what stands before the first colon */
	const char *syntax; /* one line, for help and errors */
	/* args: what follows the colon. Fills *ret_error (a phrase) on -EINVAL. */
	int (*parse)(struct trigger *t, const char *args, char *ret_error, size_t error_len);
	int (*arm)(struct trigger *t, const struct trigger_env *env);
	/* 1: hit (*ret filled), 0: nothing, negative errno: cannot look any more. */
	int (*check)(struct trigger *t, const struct trigger_env *env, uint64_t now_ns,
		     struct trigger_hit *ret);
	/* Where `value` is not kept up to date by check(): brings it up to date. */
	void (*look)(struct trigger *t, const struct trigger_env *env);
	void (*disarm)(struct trigger *t);
	void (*free)(struct trigger *t);
};

struct trigger {
	const struct trigger_ops *ops;
	char name[TRIGGER_NAME_MAX]; /* for people; the spec unless configured */
	char spec[TRIGGER_SPEC_MAX];
	int fd;		    /* poll this; -1: none */
	uint32_t events;    /* EPOLLIN, EPOLLPRI */
	uint64_t period_ns; /* call check() this often; 0: only when fd is ready */
	uint32_t quiet;	    /* bits of triggers/host.h, after check(): one has to begin before the condition can be met.
			     * While all of them are watched TRIGGER_QUIET_NS is often enough; 0: it is not */
	uint64_t looked_ns; /* whoever calls check(): when it last did */
	uint64_t post_ns;   /* post-trigger window; 0: the agent's default */
	uint64_t held_ns;   /* how long the condition must last before it fires */
	double hysteresis;  /* 0: none; it fires again once the value was below (1 - hysteresis) * threshold */
	struct trigger_limits limits;
	struct trigger_history history;
	double value;	    /* the last one seen, for `stallbox status` */
	double threshold;
	const char *unit;
	uint64_t fired_cnt; /* times that the condition was met, whatever became of it */
	bool met;	    /* the condition, when it was last looked at, however long */
	uint64_t met_since_ns; /* not long enough yet; 0: not met */
	bool told;	       /* has fired since it was last not met */
	bool waits_for_calm;   /* has fired, hysteresis keeps it from firing again */
	struct trigger_kernel_condition kernel; /* type != NONE: evaluated by BPF */
	void *state;	    /* of the kind */
};

/*
 * Parses one specification and allocates the trigger (trigger_free()).
 *
 *   psi:RESOURCE:some|full:THRESHOLD/WINDOW[:cgroup=PATH]   psi:memory:full:150ms/2s
 *   system:PERCENT[:for=DURATION][:cgroup=PATH|:pid=PID|:comm=NAME][:above-baseline=DURATION]
 *                                                            system:60%:for=3s
 *   probe:http://HOST:PORT/PATH[:status=CODE][:timeout=D][:every=D][:fails=N]
 *   probe:tcp://HOST:PORT...   probe:unix:PATH...   probe:exec:COMMAND...
 *   probe:cmdline:comm=NAME|pid=PID...
 *   kernel:reclaim|mmap-lock-wait|mmap-lock-hold|runq|softirq-delay|softirq-held|syscall>DURATION
 *   kernel:blocked(D)>DURATION[:count=N]   kernel:reclaim-yield<PERCENT%[:for=DURATION]
 *   kernel:system>PERCENT%[:for=DURATION]  all but the last with [:comm=NAME][:cgroup=PATH]
 *
 * Every form takes :name=NAME, :post=DURATION, :cooldown=DURATION, :max-per-hour=N, :max-per-day=N and
 * :dry-run. What has a level takes :held-for=DURATION (psi, system, probe, kernel:blocked(D), reclaim-yield,
 * system) and :hysteresis=PERCENT (the same without probe). Durations carry a unit (us, ms, s, m); percentages
 * carry %.
 *
 * On -EINVAL ret_error holds "what, expected ..., for example ...". */
int trigger_parse(const char *spec, struct trigger **ret, char *ret_error, size_t error_len);
void trigger_free(struct trigger *t);
static inline void trigger_freep(struct trigger **t)
{
	trigger_free(*t);
}

/* The kinds, NULL-terminated, for help texts. */
extern const struct trigger_ops *const trigger_kinds[];

/* The set armed when nothing is configured; NULL-terminated specifications. */
extern const char *const trigger_defaults[];

/* "150ms", "2s", "1500us", "3m", "1.5d" to ns. -EINVAL without a unit, -ERANGE on overflow. */
int parse_duration_ns(const char *s, uint64_t *ret_ns);
/* "8M", "64K", "1G" to bytes (powers of 1024). */
int parse_size_bytes(const char *s, uint64_t *ret_bytes);

#endif
