// SPDX-License-Identifier: BSD-2-Clause
/* What is pinned below bpffs: whose it is, taking it over where it fits, reading it without an agent. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "recorder/probes_impl.h"
#include "recorder/tracepoints.h"

/* ---- pins -------------------------------------------------------------------- */

int pins_ensure_bpffs(const char *bpffs)
{
	struct statfs sfs;

	if (statfs(bpffs, &sfs) < 0)
		return -errno;
	if (sfs.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpf", bpffs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		return -errno;
	return 0;
}

int pins_get(const struct probes *p, const char *name)
{
	char path[sizeof(p->pin_dir) + 258];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", p->pin_dir, name);
	fd = bpf_obj_get(path);
	return fd < 0 ? -errno : fd;
}

int pins_put(struct probes *p, const char *name, int fd)
{
	char path[sizeof(p->pin_dir) + 258];

	if (!p->pinned)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", p->pin_dir, name);
	return bpf_obj_pin(fd, path) < 0 ? -errno : 0;
}

void pins_remove(const struct probes *p, const char *prefix, const char *name)
{
	char path[sizeof(p->pin_dir) + 300];

	if (!p->pinned)
		return;
	snprintf(path, sizeof(path), "%s/%s%s", p->pin_dir, prefix, name);
	unlink(path);
}

/* Start time in clock ticks since boot, field 22 of /proc/PID/stat; 0: no such process. */
static uint64_t process_start(uint32_t pid)
{
	char path[32], text[512], *p;
	unsigned long long start = 0;
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	p = strrchr(text, ')'); /* the name before it may hold anything */
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			 "%*d %*d %llu", &start) != 1)
		return 0;
	return start;
}

void pins_note_owner(struct sb_control *c)
{
	c->owner_pid = (uint32_t)getpid();
	c->owner_start = process_start(c->owner_pid);
}

/* The agent that uses these pins, if it is alive and not we. */
static uint32_t other_owner(const struct sb_control *c)
{
	if (!c->owner_pid || c->owner_pid == (uint32_t)getpid())
		return 0;
	return process_start(c->owner_pid) == c->owner_start ? c->owner_pid : 0;
}

/* A copy of the control words that are pinned. -ENOENT: there are none, -ESTALE: of another layout. */
static int read_control(const struct probes *p, struct sb_control *ret)
{
	_cleanup_close_ int fd = pins_get(p, "control");
	struct sb_control *c = fd < 0 ? NULL : probes_map(fd, probes_page_up(sizeof(*c)), PROT_READ);

	if (!c)
		return -ENOENT;
	*ret = *c;
	munmap(c, probes_page_up(sizeof(*c)));
	return ret->magic == SB_CONTROL_MAGIC && ret->layout_version == SB_LAYOUT_VERSION ? 0 : -ESTALE;
}

uint32_t probes_owner(const char *bpffs)
{
	struct sb_control c;
	struct probes p;

	probes_init(&p, bpffs, true);
	return read_control(&p, &c) < 0 ? 0 : other_owner(&c);
}

bool probes_left_frozen(const char *bpffs)
{
	struct sb_control c;
	struct probes p;

	probes_init(&p, bpffs, true);
	return read_control(&p, &c) == 0 && probes_frozen(&c);
}

int probes_unpin(const char *bpffs)
{
	char dir[128], path[128 + 258];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/stallbox", bpffs);
	d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (unlink(path) == 0)
			n++;
	}
	closedir(d);
	rmdir(dir);
	return n;
}

/* ---- taking over ------------------------------------------------------------ */

static void note_pinned_programs(struct probes *p)
{
	DIR *d = opendir(p->pin_dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		struct bpf_link_info info = {};
		uint32_t len = sizeof(info);
		int fd, prog;

		if (!strncmp(e->d_name, "later_", 6)) {
			fd = pins_get(p, e->d_name);
			if (fd >= 0)
				programs_take_escalated(p, e->d_name + 6, fd);
			continue;
		}
		if (!strncmp(e->d_name, "limited_", 8) && programs_is_optional(e->d_name + 8)) {
			programs_take_limited(p, e->d_name + 8);
			continue;
		}
		if (strncmp(e->d_name, "link_", 5) || !strncmp(e->d_name, "link_sample_", 12))
			continue;
		fd = pins_get(p, e->d_name);
		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0) {
			prog = bpf_prog_get_fd_by_id(info.prog_id);
			if (prog >= 0) {
				probes_note_program(p, prog);
				if (programs_is_optional(e->d_name + 5)) {
					programs_take_optional(p, e->d_name + 5, prog, fd);
					continue;
				}
				close(prog);
			}
		}
		if (!strcmp(e->d_name, "link_stackshot"))
			p->iter_link_fd = fd;
		else
			close(fd);
	}
	if (d)
		closedir(d);
}

/* The settings that the pinned programs were loaded with, from their constants. */
static int pinned_config(const struct probes *p, struct sb_config *ret)
{
	_cleanup_close_ int link = pins_get(p, "link_sched_switch");
	_cleanup_close_ int prog = -1;
	struct bpf_link_info li = {};
	struct bpf_prog_info pi = {};
	uint32_t ids[64], len = sizeof(li);

	if (link < 0 || bpf_obj_get_info_by_fd(link, &li, &len) < 0)
		return -ENOENT;
	prog = bpf_prog_get_fd_by_id(li.prog_id);
	pi.nr_map_ids = SB_ARRAY_SIZE(ids);
	pi.map_ids = (uint64_t)(uintptr_t)ids;
	len = sizeof(pi);
	if (prog < 0 || bpf_obj_get_info_by_fd(prog, &pi, &len) < 0)
		return -ENOENT;
	for (uint32_t i = 0; i < SB_MIN(pi.nr_map_ids, (uint32_t)SB_ARRAY_SIZE(ids)); i++) {
		_cleanup_close_ int fd = bpf_map_get_fd_by_id(ids[i]);
		struct bpf_map_info mi = {};
		uint32_t key = 0;
		uint8_t value[4096];

		len = sizeof(mi);
		if (fd < 0 || bpf_obj_get_info_by_fd(fd, &mi, &len) < 0 || !strstr(mi.name, ".rodata") ||
		    mi.value_size > sizeof(value) || mi.value_size % sizeof(*ret) ||
		    bpf_map_lookup_elem(fd, &key, value) < 0)
			continue;
		memcpy(ret, value, sizeof(*ret));
		return 0;
	}
	return -ENOENT;
}

int pins_take_over(struct probes *p, uint64_t hash, char *err, size_t len)
{
	_cleanup_close_ int control = pins_get(p, "control");
	_cleanup_close_ int cpus = -1;
	_cleanup_close_ int rings = -1;
	_cleanup_close_ int tasks = -1;
	_cleanup_close_ int sample = -1;
	struct sb_control found;
	struct sb_config cfg;
	int r = read_control(p, &found);

	if (r < 0)
		return r;
	/* Another build, the same layout and settings: an upgrade must not cost the history. */
	p->older = found.object_hash != hash;
	if (p->older && (pinned_config(p, &cfg) < 0 || memcmp(&cfg, &p->cfg, sizeof(cfg)))) {
		p->older = false;
		return -ESTALE;
	}
	cpus = pins_get(p, "cpus");
	rings = pins_get(p, "rings");
	tasks = pins_get(p, "tasks");
	p->hits_fd = pins_get(p, "hits");
	if (cpus < 0 || rings < 0 || tasks < 0 || p->hits_fd < 0)
		return -ENOENT;
	r = unwind_keep(p, NULL);
	if (r == 0)
		r = probes_map_shared(p, control, cpus, rings, tasks);
	if (r < 0)
		return r;
	pins_note_owner(p->control);
	note_pinned_programs(p);
	sample = pins_get(p, "prog_sample");
	if (sample >= 0)
		probes_note_program(p, sample);
	p->deadlines_fd = pins_get(p, "prog_deadlines");
	if (p->deadlines_fd >= 0)
		probes_note_program(p, p->deadlines_fd);
	p->perf_links = samplers_pinned(p);
	if (p->perf_links) {
		samplers_read_online(p->online, sizeof(p->online));
		samplers_revive(p);
	} else if (sample >= 0) {
		r = samplers_attach(p, sample, err, len);
		if (r < 0)
			return r;
	}
	p->taken_over = true;
	return tracepoints_choose(p, NULL, err, len);
}

bool probes_would_replace(const struct probes_options *o)
{
	struct probes p;
	struct sb_config wanted, pinned;
	int cpus = libbpf_num_possible_cpus();

	probes_init(&p, o->bpffs, true);
	if (cpus < 1 || pinned_config(&p, &pinned) < 0)
		return false;
	wanted = probes_wanted_config(o, (uint32_t)cpus);
	return memcmp(&wanted, &pinned, sizeof(wanted)) != 0;
}

static int open_pinned(struct probes *p)
{
	_cleanup_close_ int control = pins_get(p, "control");
	_cleanup_close_ int cpus = pins_get(p, "cpus");
	_cleanup_close_ int rings = pins_get(p, "rings");
	_cleanup_close_ int tasks = pins_get(p, "tasks");
	struct sb_control found;
	int r;

	if (control < 0 || cpus < 0 || rings < 0 || tasks < 0)
		return -ENOENT;
	r = read_control(p, &found);
	if (r == 0)
		r = pinned_config(p, &p->cfg);
	if (r == 0)
		r = probes_map_shared(p, control, cpus, rings, tasks);
	if (r == 0)
		p->iter_link_fd = pins_get(p, "link_stackshot");
	return r;
}

int probes_open_pinned(const char *bpffs, struct probes *ret, char *ret_error, size_t error_len)
{
	uint32_t owner = probes_owner(bpffs);
	int r;

	probes_init(ret, bpffs, true);
	if (owner) {
		snprintf(ret_error, error_len, "stallboxd (pid %u) records with what is pinned below %s/stallbox\n"
			 "it exports what the kernel freezes by itself; 'stallbox freeze' asks for a bundle",
			 owner, bpffs);
		return -EBUSY;
	}
	r = open_pinned(ret);
	if (r == 0)
		pins_note_owner(ret->control);
	else if (r == -ENOENT)
		snprintf(ret_error, error_len, "no recorder is pinned below %s/stallbox\n"
			 "start stallboxd, or name the right bpffs with --bpffs", bpffs);
	else if (r == -ESTALE)
		snprintf(ret_error, error_len, "the recorder below %s/stallbox is of another version, expected "
			 "layout %u\nuse the stallboxd that loaded it", bpffs, SB_LAYOUT_VERSION);
	else
		probes_fail_text(ret_error, error_len, "cannot map what is pinned", r, NULL);
	return r;
}

void probes_leave(struct probes *p)
{
	p->control->owner_pid = 0;
	p->control->owner_start = 0;
	probes_close(p);
}
