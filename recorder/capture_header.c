// SPDX-License-Identifier: BSD-2-Clause
/* The first chunk of a bundle: the host, the kernel, the clocks, the trigger. */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "recorder/capture_impl.h"
#include "recorder/notes.h"
#include "recorder/text.h"

/* "0-3,8" as numbers. */
static size_t online_cpus(uint32_t *ret, size_t max)
{
	char text[256], *p = text;
	size_t n = 0;

	text_first_line("/sys/devices/system/cpu/online", text, sizeof(text));
	while (*p) {
		unsigned long from = strtoul(p, &p, 10), to = from;

		if (*p == '-')
			to = strtoul(p + 1, &p, 10);
		for (; from <= to && n < max; from++)
			ret[n++] = (uint32_t)from;
		if (*p != ',')
			break;
		p++;
	}
	return n;
}

static struct bundle_clock clock_point(void)
{
	return (struct bundle_clock){
		.monotonic_ns = (int64_t)sb_now_ns(CLOCK_MONOTONIC),
		.realtime_ns = (int64_t)sb_now_ns(CLOCK_REALTIME),
		.boottime_ns = (int64_t)sb_now_ns(CLOCK_BOOTTIME),
	};
}

int capture_write_header(struct freezer *z)
{
	const struct probes *p = z->c->probes;
	const struct capture_cause *k = &z->order.cause;
	struct utsname un;
	struct sysinfo si;
	char boot_id[64], machine_id[64], hash[32];
	uint32_t online[PROBES_MAX_CPUS];
	struct bundle_clock clock = clock_point();
	struct bundle_header h = {
		.producer = "stallbox " SB_VERSION,
		.boot_id = boot_id,
		.machine_id_hash = hash,
		.page_size = (uint32_t)sysconf(_SC_PAGESIZE),
		.cpus_possible = p->cfg.cpus,
		.cpu_online = online,
		.clocks = &clock,
		.n_clocks = 1,
		.config = z->listed,
		.n_config = z->n_listed,
		.missing = p->missing,
		.n_missing = p->n_missing,
		.sample_period_ns = p->cfg.sample_period_ns,
		.offcpu_threshold_ns = p->cfg.offcpu_threshold_ns,
		.ring_bytes = p->cfg.ring_bytes,
		.trigger = { k->name, k->kind, k->spec, k->unit, k->detail, k->fired_ns, k->value,
			     k->threshold, k->target_tid },
	};

	uname(&un);
	sysinfo(&si);
	h.hostname = un.nodename;
	h.kernel_release = un.release;
	h.kernel_version = un.version;
	h.arch = un.machine;
	h.mem_total_bytes = (uint64_t)si.totalram * si.mem_unit;
	h.n_cpu_online = online_cpus(online, SB_ARRAY_SIZE(online));
	h.kernel_build_id_len = notes_build_id("/sys/kernel/notes", h.kernel_build_id, sizeof(h.kernel_build_id));
	text_first_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
	/* The raw machine-id is confidential (machine-id(5)); a hash still tells hosts apart. */
	text_first_line("/etc/machine-id", machine_id, sizeof(machine_id));
	snprintf(hash, sizeof(hash), "%016llx",
		 (unsigned long long)sb_hash_bytes(machine_id, strlen(machine_id)));
	if (getrandom(h.capture_id, sizeof(h.capture_id), GRND_NONBLOCK) < 0)
		memcpy(h.capture_id, &clock, sizeof(h.capture_id));
	return bundle_writer_header(z->f.w, &h);
}
