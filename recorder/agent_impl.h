/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the agent, for recorder/agent*.c alone: its state, and what its parts call of each other. */
#ifndef SB_RECORDER_AGENT_IMPL_H
#define SB_RECORDER_AGENT_IMPL_H

#include "recorder/agent.h"
#include "recorder/capture.h"
#include "recorder/control.h"
#include "recorder/pool.h"
#include "recorder/reload.h"
#include "recorder/selfcost.h"
#include "recorder/status.h"
#include "recorder/unwinder.h"
#include "recorder/watchdog.h"

/* The freezer encodes 32 MiB in under a second; after this it is taken for dead. */
#define FREEZER_TIMEOUT_NS (60 * NSEC_PER_SEC)
/* Bundles also become too old, and directories full, while nothing is captured. */
#define KEEP_PERIOD_NS (3600 * NSEC_PER_SEC)

/* What an event of the loop is about. */
enum source { SRC_SIGNAL, SRC_HITS, SRC_STARTER, SRC_LISTEN, SRC_RELOAD, SRC_WATCHDOG, SRC_BEGUN, SRC_TRIGGER = 100, SRC_CAPTURE = 500, SRC_CLIENT = 1000 };

struct agent {
	struct options *o;
	struct probes probes;
	struct agent_view v; /* what status shows */
	struct capture_config capture_config;
	struct pool pool;
	struct control control;
	struct ring_buffer *hits;
	struct trigger_env env;
	int epoll_fd, signal_fd;
	bool stop;
	uint64_t due[OPTIONS_MAX_TRIGGERS]; /* of triggers with a period */
	uint64_t said_ns; /* last message about a trigger without a bundle: one in 10 s */
	uint64_t selfcost_due, kept_house_ns, keep_due;
	uint64_t listen_due; /* connections are taken again; UINT64_MAX: they are */
	struct trigger_history asked_history; /* of requests for a bundle by others than root */
	size_t kernel_index[SB_KTRIGGERS]; /* in-kernel condition -> trigger */
	uint64_t unsealed[SB_KTRIGGERS]; /* of that condition: what the agent has taken note of */
	size_t n_kernel;
	/* The capture under way. */
	struct capture_order order;
	unsigned int marks_unkept;
	/* What the next capture is about to have; fired_ns, ts_ns 0: nothing. */
	struct trigger_hit asked;  /* asked for while the last banks were read */
	struct capture_mark early; /* came after the kernel's seal and before its message */
	uint64_t state_since_ns, post_deadline_ns, cooldown_end_ns;
	struct series *series;
	struct unwinder unwinder;
	uint32_t escalate_always; /* enum sb_ktrigger_type bits whose programs stay attached */
	struct watchdog watchdog;
	struct capture_work *work; /* shared with the processes of captures */
	bool no_starter; /* said */
	bool pre_read; /* the freezer is done with the first bank */
	uint32_t settings; /* which of work->settings is in force */
	struct reload reload;
	bool reload_again; /* asked for while one was under way */
	uint64_t stamp_ms; /* in the name of the last bundle */
};

/* ---- agent.c ---- */

/* 0, or a negative errno. */
int agent_watch(struct agent *a, int fd, uint32_t events, uint64_t source);
struct selfcost_sources agent_cost_sources(const struct agent *a);
/* Programs of the escalated window that stay attached: bits of enum sb_ktrigger_type. */
uint32_t agent_always(const struct agent *a);

/* ---- agent_reload.c ---- */

/* Begins to read the configuration again; or does so as soon as that can be done. */
void agent_reload(struct agent *a);
/* In every round of the loop: applies what was read. */
void agent_check_reload(struct agent *a, uint64_t now);

/* ---- agent_requests.c ---- */

/* 0, or a negative errno, which it has logged. */
int agent_open_control(struct agent *a);
/* If its path was removed, the socket is made again. */
void agent_renew_control(struct agent *a);
void agent_accept(struct agent *a, uint64_t now);
/* Has the client a request? Then it is answered, or waits for the answer. */
void agent_serve(struct agent *a, struct control_client *c);
/* Takes connections, or leaves them in the kernel's queue. */
void agent_listen(struct agent *a, bool on);

/* ---- agent_capture.c ---- */

void agent_set_state(struct agent *a, enum agent_state s);
/* The kernel's conditions, and every other trigger, may begin a capture from now on. */
void agent_arm(struct agent *a);
void agent_escalate(struct agent *a, bool on);
/* The bank is sealed: hands it to the freezer. post_ns 0: the configured one. */
void agent_begin_capture(struct agent *a, const struct capture_cause *cause, uint64_t post_ns,
			 uint64_t sealed_ns);
void agent_end_post_window(struct agent *a);
/* A bundle of its own (t NULL: of a person), or part of the one under way, or TRIGGER_IN_COOLDOWN: nothing. */
enum trigger_outcome agent_capture(struct agent *a, const struct trigger *t, const struct trigger_hit *hit);
/* For a person: the cooldown holds back machines, and no bundle whose window is over is an answer. The id of
 * the capture that it is part of: begun, the one under way, or the next one. */
uint32_t agent_ask(struct agent *a, const struct trigger_hit *hit);
/* A client that only wants to know that the bank is sealed. */
void agent_answer_begun(struct agent *a, struct control_client *c, bool merged);
/* The kernel has sealed the bank, and its message was lost: nothing else would open the bank again. */
void agent_take_unheard(struct agent *a, uint64_t now);
/* A process of captures has something to say, or the starter has another one. */
void agent_take_reports(struct agent *a, struct pool_slot *s);
void agent_take_process(struct agent *a);
void agent_fill_pool(struct agent *a);
/* Has the directories put in order. */
void agent_keep(struct agent *a, uint64_t now);
/* The capture under way is lost, its process is killed. */
void agent_lose_capture(struct agent *a, const char *why);

/* ---- agent_triggers.c ---- */

/* 0, or -ENOENT: there is none that could be armed. */
int agent_arm_triggers(struct agent *a);
/* The i-th alone. 0 or a negative errno, which it has logged. */
int agent_arm_trigger(struct agent *a, size_t i);
/* Hands the conditions of kernel: triggers to the programs. They are not armed on return: agent_arm(). */
void agent_write_kernel_triggers(struct agent *a);
/* After a change of what the armed triggers need, or of Escalate. */
void agent_set_always(struct agent *a);
struct capture_cause agent_cause(const struct trigger *t, const struct trigger_hit *hit);
/* Its descriptor is ready, or its time has come. */
void agent_check(struct agent *a, size_t i, uint64_t now);
void agent_check_due(struct agent *a, uint64_t now);
/* Something has begun on the host: the triggers that wait for that look now. */
void agent_check_quiet(struct agent *a, uint64_t now);
/* A callback of the ring of hits; ctx: struct agent. */
int agent_kernel_hit(void *ctx, void *data, size_t len);
/* The kernel has sealed the bank for trigger[k] of its own, which is heard of otherwise. */
void agent_note_sealed(struct agent *a, uint32_t k, uint64_t at_ns);
/* Takes note of the in-kernel conditions that were met and did not seal. */
void agent_collect(struct agent *a);
/* Brings the values of all triggers up to date. */
void agent_look(struct agent *a, uint64_t now);

#endif
