/* SPDX-License-Identifier: BSD-2-Clause */
/* The stories of make_scene.c, which includes this. */

#define MANUAL { "manual", "manual", "manual", "", "somebody asked", 0, 0, 0, 0 }

/* Nothing but ordinary life. */
static void tell_calm(struct scene *s)
{
	ordinary_series(s, 4, 2, 1, 2);
}

/* cadvisor reads memory.stat for 80 ms at a time on CPU 1, seven times, and each time ksoftirqd/1
 * runs right after. ksoftirqd/2 runs twice with nothing before it. */
static void tell_softirq(struct scene *s)
{
	uint32_t p = process(s, 2300, "cadvisor", "/kubepods/cadvisor"), k = process(s, 20, "ksoftirqd/1", "/");
	uint32_t k2 = process(s, 26, "ksoftirqd/2", "/");
	uint32_t t = thread(s, p, 2344, "cadvisor", "/kubepods/cadvisor"), sirq = thread(s, k, 20, "ksoftirqd/1", "/");
	uint32_t sirq2 = thread(s, k2, 26, "ksoftirqd/2", "/");
	uint32_t call = stack(s, 0, "mem_cgroup_nr_lru_pages;memcg_stat_show;seq_read_iter;vfs_read;ksys_read;do_syscall_64");
	uint32_t user = stack(s, p, "read;os.(*File).Read;main");
	uint32_t net = stack(s, 0, "net_rx_action;handle_softirqs;run_ksoftirqd;smpboot_thread_fn;kthread");

	ordinary_series(s, 6, 8, 2, 2);
	for (int i = 0; i < 7; i++) {
		int64_t ms = -7000 + 1000 * i + 100;
		struct bundle_event *e;

		samples(s, 1, ms, ms + 80, t, call, user, 0, 1);
		e = event(s, BUNDLE_SYSCALL, 1, ms + 81, t, scaled(82));
		e->syscall = 1;
		e->name = bundle_writer_string(s->w, "memory.stat");
		e->arg0 = 9;
		e->cpu_time_ns = scaled(82) * MS;
		samples(s, 1, ms + 90, ms + 100, sirq, net, 0, 0, 0);
		e = event(s, BUNDLE_SOFTIRQ, 1, ms + 91, sirq, 1);
		e->detail = 3;
		e->delay_ns = scaled(80) * MS;
	}
	for (int i = 0; i < 2; i++)
		samples(s, 2, -20300 + 1000 * i, -20290 + 1000 * i, sirq2, net, 0, 0, 0);
	shot(s, t, 1, 100, stack(s, 0, "futex_wait_queue;do_futex;do_syscall_64"));
}

static const struct scene_entry {
	const char *name;
	void (*tell)(struct scene *s);
	struct bundle_trigger trigger;
} scenes[] = {
	{ "calm", tell_calm, MANUAL },
	{ "softirq", tell_softirq, { "probe", "probe", "probe:tcp://127.0.0.1:80", "ms", "no answer in 500 ms", 0, 501, 500, 0 } },
};
