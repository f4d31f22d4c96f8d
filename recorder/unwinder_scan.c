// SPDX-License-Identifier: BSD-2-Clause
/* Who has mapped what: the kernel's news of it, and scans of /proc. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>

#include "recorder/unwinder_impl.h"
#include "symbols/symbols.h"

#define SCAN_MAPS (int)MAPPINGS_PER_PROCESS
#define SCAN_AGAIN 5
#define RESCAN_NS (2 * NSEC_PER_SEC)

struct scan_result {
	uint32_t pid, tries;
	uint64_t ts_ns;
	int n; /* or a negative errno */
	uint32_t more; /* mappings that there was no room for */
	struct process_map maps[];
};

/* ---- who is mapped where ---------------------------------------------------------------- */

/* Shared memory, where compilers at run time put code, as .NET does; a program may run from there, too, and has a
 * build-id then. */
static bool is_memory(const char *path)
{
	static const char *const names[] = { "/memfd:", "/dev/zero", "/SYSV" };

	for (size_t i = 0; i < SB_ARRAY_SIZE(names); i++) {
		if (!strncmp(path, names[i], strlen(names[i])))
			return true;
	}
	return false;
}

static uint32_t file_of(struct keeper *k, const uint8_t *id, size_t id_len, uint64_t dev, uint64_t ino,
			const char *path)
{
	if (path[0] == '[' && !strcmp(path, "[vdso]"))
		return k->vdso;
	/* "//anon", "[uprobes]": there is nothing to read. */
	if (path[0] != '/' || path[1] == '/' || (!id_len && !ino) || (!id_len && is_memory(path)))
		return MAPPINGS_NO_FILE;
	return mappings_file(k->mappings, id, id_len, dev, ino, path);
}

void unwinder_take_event(const struct sideband_event *e, void *ctx)
{
	struct keeper *k = ctx;
	struct known_ksym *ksym;
	uint32_t file;

	switch (e->type) {
	case SIDEBAND_MAP:
		file = file_of(k, e->build_id, e->build_id_len, e->dev, e->ino, e->path);
		mappings_add(k->mappings, e->ts_ns, e->pid, e->start, e->len, e->offset, file);
		unwinder_want_file(k, file, e->pid, e->start, e->len, k->now_ns);
		break;
	case SIDEBAND_EXEC:
		mappings_exec(k->mappings, e->ts_ns, e->pid);
		break;
	case SIDEBAND_FORK:
		mappings_fork(k->mappings, e->ts_ns, e->pid, e->parent);
		break;
	case SIDEBAND_THREAD:
		mappings_thread(k->mappings, e->pid);
		break;
	case SIDEBAND_EXIT:
		mappings_exit(k->mappings, e->ts_ns, e->pid);
		break;
	case SIDEBAND_KSYM_GONE:
		ksym = &k->ksym[k->n_ksyms++ % KSYMS];
		*ksym = (struct known_ksym){ e->start, e->len, e->ts_ns, "" };
		memcpy(ksym->name, e->path, strnlen(e->path, sizeof(ksym->name) - 1));
		break;
	}
}

/* ---- scans of /proc --------------------------------------------------------------------- */

static void scan_process(struct keeper *k, uint32_t pid, uint32_t tries)
{
	struct process_map *maps = malloc(SCAN_MAPS * sizeof(*maps));
	struct scan_result *r;
	uint64_t begin = sb_monotonic_ns();
	uint32_t more = 0;
	int n;

	if (!maps)
		return;
	n = process_maps_read(pid, SCAN_TIMEOUT_MS, maps, SCAN_MAPS);
	if (n > SCAN_MAPS) {
		more = (uint32_t)(n - SCAN_MAPS);
		n = SCAN_MAPS;
	}
	r = malloc(sizeof(*r) + (size_t)SB_MAX(n, 0) * sizeof(*maps));
	if (r) {
		*r = (struct scan_result){ .pid = pid, .tries = tries, .ts_ns = begin, .n = n, .more = more };
		memcpy(r->maps, maps, (size_t)SB_MAX(n, 0) * sizeof(*maps));
	}
	free(maps);
	/* The other side empties it every round. */
	while (r && !unwinder_queue_put(&k->scanned, r))
		usleep(ROUND_MS * 1000);
}

static void scan_all(struct keeper *k)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		if (isdigit((unsigned char)e->d_name[0]))
			scan_process(k, (uint32_t)strtoul(e->d_name, NULL, 10), 0);
	}
	if (d)
		closedir(d);
}

/* Orders: a pid and how often it was scanned before, or 0 for all. */
void *unwinder_scanner(void *arg)
{
	struct keeper *k = arg;

	for (;;) {
		uint64_t *order = unwinder_queue_take(&k->to_scan, true);

		if (*order)
			scan_process(k, (uint32_t)*order, (uint32_t)(*order >> 32));
		else
			scan_all(k);
		if (!*order)
			__atomic_store_n(&k->scanning, false, __ATOMIC_RELEASE);
		unwinder_say_found(k);
		free(order);
	}
	return NULL;
}

void unwinder_order_scan(struct keeper *k, uint32_t pid, uint32_t tries)
{
	uint64_t *order = malloc(sizeof(*order));

	if (!order)
		return;
	*order = (uint64_t)tries << 32 | pid;
	if (!unwinder_queue_put(&k->to_scan, order))
		free(order);
}

void unwinder_take_scanned(struct keeper *k)
{
	struct scan_result *r;

	while ((r = unwinder_queue_take(&k->scanned, false))) {
		if (r->n < 0 && r->n != -ESRCH) {
			k->stats->scan_failed++;
		} else if (r->n > 0 && !mappings_rescan(k->mappings, r->ts_ns, r->pid)) {
			if (r->tries < SCAN_AGAIN)
				unwinder_order_scan(k, r->pid, r->tries + 1);
			else
				k->stats->scan_failed++;
		} else if (r->n > 0) {
			k->stats->scanned++;
			k->cut += r->more;
			for (int i = 0; i < r->n; i++) {
				const struct process_map *m = &r->maps[i];
				uint32_t file = file_of(k, NULL, 0, m->dev, m->ino, m->path);

				mappings_add(k->mappings, r->ts_ns, r->pid, m->start, m->len, m->pgoff, file);
				unwinder_want_file(k, file, r->pid, m->start, m->len, k->now_ns);
			}
		}
		free(r);
	}
}

/* What was lost may have been anybody's mapping: look at everybody again, some time after a storm. */
void unwinder_repair(struct keeper *k, uint64_t now)
{
	uint64_t lost = sideband_lost(k->sideband);

	if (lost == k->lost_seen || now < k->rescan_ns || __atomic_load_n(&k->scanning, __ATOMIC_ACQUIRE))
		return;
	k->lost_seen = lost;
	k->rescan_ns = now + RESCAN_NS;
	k->stats->rescans++;
	__atomic_store_n(&k->scanning, true, __ATOMIC_RELEASE);
	unwinder_order_scan(k, 0, 0);
}
