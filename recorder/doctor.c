// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "format/uploaded.h"
#include "recorder/control.h"
#include "recorder/text.h"

/* linux/magic.h */
#define BPF_FS 0xcafe4a11L
#define TRACE_FS 0x74726163L

/* A bundle of the default ring is seldom larger. */
#define ROOM_BYTES (64ULL << 20)

enum state { IS_OK, DEGRADED, MISSING };

struct report {
	bool json, any;
	enum state worst;
	struct text text;
};

static const char *const state_names[] = { "ok", "degraded", "missing" };

/* One check. costs, fix: "" where nothing is missing. */
static void say(struct report *r, const char *name, enum state s, const char *costs, const char *fix,
		const char *fmt, ...) __attribute__((format(printf, 6, 7)));
static void say(struct report *r, const char *name, enum state s, const char *costs, const char *fix,
		const char *fmt, ...)
{
	char found[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(found, sizeof(found), fmt, ap);
	va_end(ap);
	r->worst = SB_MAX(r->worst, s);
	if (!r->json) {
		text_put(&r->text, "%-9s %-22s %s\n", state_names[s], name, found);
		if (s != IS_OK)
			text_put(&r->text, "%10scosts: %s\n%10sfix:   %s\n", "", costs, "", fix);
		return;
	}
	text_put(&r->text, "%s{\"name\":", r->any ? "," : "");
	text_json(&r->text, name);
	text_put(&r->text, ",\"state\":\"%s\",\"found\":", state_names[s]);
	text_json(&r->text, found);
	text_put(&r->text, ",\"costs\":");
	text_json(&r->text, s == IS_OK ? "" : costs);
	text_put(&r->text, ",\"fix\":");
	text_json(&r->text, s == IS_OK ? "" : fix);
	text_put(&r->text, "}");
	r->any = true;
}

/* ---- who we are ---------------------------------------------------------------------- */

/* Numbers of linux/capability.h, some of which are younger than the headers of old systems. */
static const struct capability {
	int bit;
	const char *name;
	enum state without;
	const char *costs;
} capabilities[] = {
	{ 39, "CAP_BPF", MISSING, "nothing can be recorded" },
	{ 38, "CAP_PERFMON", MISSING, "nothing can be recorded" },
	{ 21, "CAP_SYS_ADMIN", DEGRADED, "bpffs is not mounted where it is not yet, pinned programs are not found again, the cost of the programs is not measured" },
	{ 24, "CAP_SYS_RESOURCE", DEGRADED, "psi triggers are read every 250 ms instead of served by the kernel, and come later" },
	{ 23, "CAP_SYS_NICE", DEGRADED, "no SCHED_FIFO: triggers come late on a busy host, by 84 ms behind 100 threads" },
	{ 14, "CAP_IPC_LOCK", DEGRADED, "the agent's memory can be reclaimed by the very stall it records" },
	{ 34, "CAP_SYSLOG", DEGRADED, "no names of kernel functions: stacks are addresses" },
	{ 19, "CAP_SYS_PTRACE", DEGRADED, "no mappings of other users' processes: their stacks are addresses" },
	{ 2, "CAP_DAC_READ_SEARCH", DEGRADED, "binaries that others may not read have no names" },
	{ 40, "CAP_CHECKPOINT_RESTORE", DEGRADED, "binaries and libraries that an upgrade has deleted have no names" },
};

static bool has(unsigned long long caps, int bit)
{
	return caps >> bit & 1;
}

static void check_capabilities(struct report *r, unsigned long long caps)
{
	for (size_t i = 0; i < SB_ARRAY_SIZE(capabilities); i++) {
		const struct capability *c = &capabilities[i];
		/* What CAP_SYS_ADMIN may, these may only a part of. */
		bool there = has(caps, c->bit) || ((c->bit == 38 || c->bit == 39) && has(caps, 21));

		say(r, c->name, there ? IS_OK : c->without, c->costs,
		    "run as root, or grant it (AmbientCapabilities= of the service)", "%s",
		    there ? "effective" : "not effective");
	}
}

/* ---- the kernel ---------------------------------------------------------------------- */

static void check_kernel(struct report *r)
{
	struct utsname u;
	int major = 0, minor = 0;
	bool old;

	uname(&u);
	sscanf(u.release, "%d.%d", &major, &minor);
	old = major < 5 || (major == 5 && minor < 10);
	say(r, "kernel", old ? MISSING : IS_OK, "nothing can be recorded", "use Linux 5.10 or later", "%s", u.release);
	say(r, "btf", access("/sys/kernel/btf/vmlinux", R_OK) == 0 ? IS_OK : MISSING, "nothing can be recorded",
	    "use a kernel with CONFIG_DEBUG_INFO_BTF=y", "/sys/kernel/btf/vmlinux %s",
	    access("/sys/kernel/btf/vmlinux", R_OK) == 0 ? "can be read" : strerror(errno));
}

static void check_lockdown(struct report *r)
{
	char line[128];
	bool strict;

	text_first_line("/sys/kernel/security/lockdown", line, sizeof(line));
	strict = strstr(line, "[confidentiality]");
	say(r, "lockdown", strict ? MISSING : IS_OK, "BPF programs may not read the kernel's memory: nothing can be recorded",
	    "boot without lockdown=confidentiality (integrity is enough for Secure Boot)", "%s",
	    line[0] ? line : "not in use, or /sys/kernel/security is not mounted");
}

static void check_paranoid(struct report *r, unsigned long long caps)
{
	char line[32];
	bool denied;

	text_first_line("/proc/sys/kernel/perf_event_paranoid", line, sizeof(line));
	denied = atoi(line) >= 3 && !has(caps, 21);
	say(r, "perf_event_paranoid", denied ? MISSING : IS_OK,
	    "no sampling: no on-CPU stacks, and no clock for conditions in the kernel",
	    "sysctl kernel.perf_event_paranoid=2, or grant CAP_SYS_ADMIN", "%s", line[0] ? line : "cannot be read");
}

static void check_kallsyms(struct report *r)
{
	char line[256];
	bool names;

	text_first_line("/proc/kallsyms", line, sizeof(line));
	names = strtoull(line, NULL, 16) != 0;
	/* The first symbol may be at 0: of the per-CPU area. */
	if (!names && line[0]) {
		FILE *f = fopen("/proc/kallsyms", "re");

		for (int i = 0; f && i < 5000 && !names && fgets(line, sizeof(line), f); i++)
			names = strtoull(line, NULL, 16) != 0;
		if (f)
			fclose(f);
	}
	say(r, "kernel names", names ? IS_OK : DEGRADED, "no names of kernel functions: stacks are addresses",
	    "grant CAP_SYSLOG; sysctl kernel.kptr_restrict=1; no ProtectKernelLogs= nor ProtectKernelTunables= in the service",
	    "%s", names ? "/proc/kallsyms has addresses" : "/proc/kallsyms has none");
}

static void check_jit(struct report *r)
{
	char line[32];
	bool off;

	text_first_line("/proc/sys/net/core/bpf_jit_enable", line, sizeof(line));
	off = !strcmp(line, "0");
	say(r, "bpf jit", off ? DEGRADED : IS_OK, "the programs are interpreted and cost many times as much",
	    "sysctl net.core.bpf_jit_enable=1", "%s", off ? "off" : line[0] ? "on" : "always on, or not to be read");
}

static void check_psi(struct report *r)
{
	char line[128];

	text_first_line("/proc/pressure/memory", line, sizeof(line));
	say(r, "psi", line[0] ? IS_OK : DEGRADED, "no psi triggers, and no pressure in the series of a bundle",
	    "boot with psi=1, or use a kernel with CONFIG_PSI=y", "/proc/pressure/memory %s",
	    line[0] ? "can be read" : "cannot be read");
}

static bool is_mounted(const char *dir, long magic)
{
	struct statfs fs;

	return statfs(dir, &fs) == 0 && (long)fs.f_type == magic;
}

static void check_mounts(struct report *r, const struct options *o, unsigned long long caps)
{
	bool there = is_mounted(o->config.recorder.bpffs, BPF_FS), can = there || has(caps, 21) || !o->config.recorder.pin;

	say(r, "bpffs", can ? IS_OK : MISSING, "nothing is pinned: recording would end with the agent",
	    "mount -t bpf bpf /sys/fs/bpf, or use --no-pin", "%s: %s", o->config.recorder.bpffs,
	    there ? "mounted" : "not mounted; stallboxd does it");
	say(r, "tracefs", IS_OK, "", "", "%s", is_mounted("/sys/kernel/tracing", TRACE_FS) ||
	    is_mounted("/sys/kernel/debug/tracing", TRACE_FS) ? "mounted" : "not mounted; not needed, programs are attached by BTF");
}

/* What the programs themselves find, in a recorder of 1 MiB a CPU that is gone again at once. */
static void check_programs(struct report *r, struct options *o)
{
	char error[512], *hint;
	struct probes p;
	int ret;

	o->probes.pin = false;
	o->probes.memory_bytes = 2ULL << 20;
	ret = probes_open(&o->probes, &p, error, sizeof(error));
	if (ret < 0) {
		hint = strchr(error, '\n');
		if (hint)
			*hint++ = '\0';
		say(r, "programs", MISSING, "nothing can be recorded", hint ? hint : "see the other checks", "%s", error);
		return;
	}
	say(r, "programs", IS_OK, "", "", "%zu load and attach", p.n_programs);
	for (size_t i = 0; i < p.n_missing; i++)
		say(r, "evidence", DEGRADED, p.missing[i].key, "another kernel, see above", "%s", p.missing[i].value);
	probes_close(&p);
}

/* ---- limits -------------------------------------------------------------------------- */

static void check_memlock(struct report *r, unsigned long long caps)
{
	struct rlimit limit = {};
	bool enough;

	getrlimit(RLIMIT_MEMLOCK, &limit);
	enough = has(caps, 14) || limit.rlim_cur >= 64u << 20;
	say(r, "memlock", enough ? IS_OK : DEGRADED,
	    "the agent's memory cannot be locked; before Linux 5.11 the ring does not fit either",
	    "LimitMEMLOCK=infinity in the service, or CAP_IPC_LOCK", "%llu KiB%s", (unsigned long long)limit.rlim_cur >> 10,
	    has(caps, 14) ? ", not in force with CAP_IPC_LOCK" : "");
}

/* In a child, which is gone at once. */
static int try_fifo(void)
{
	struct sched_param sp = { .sched_priority = 1 };
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(sched_setscheduler(0, SCHED_FIFO, &sp) < 0 ? errno : 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : EAGAIN;
}

static void check_fifo(struct report *r)
{
	int e = try_fifo();
	char line[32];

	text_first_line("/proc/sys/kernel/sched_rt_runtime_us", line, sizeof(line));
	if (!e && !strcmp(line, "0"))
		e = EPERM;
	say(r, "SCHED_FIFO", e ? DEGRADED : IS_OK, "triggers come late on a busy host, by 84 ms behind 100 threads",
	    "CAP_SYS_NICE; sysctl kernel.sched_rt_runtime_us=950000; with CONFIG_RT_GROUP_SCHED a budget in cpu.rt_runtime_us",
	    "%s, sched_rt_runtime_us %s", e ? strerror(e) : "allowed", line[0] ? line : "not to be read");
}

/* ---- where bundles go ---------------------------------------------------------------- */

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0; /* a link to nothing is in the way */
}

/* 0, or why `dir`, which is not there, cannot be made: by the directory that is to be written for it. */
static int cannot_make(const char *dir)
{
	char parent[300], *slash;
	struct stat st;

	snprintf(parent, sizeof(parent), "%s", dir);
	while (!exists(parent) && (slash = strrchr(parent, '/')) && slash != parent)
		*slash = '\0';
	if (!exists(parent))
		strcpy(parent, "/");
	if (stat(parent, &st) < 0)
		return errno;
	if (!S_ISDIR(st.st_mode))
		return ENOTDIR;
	return access(parent, W_OK) < 0 ? errno : 0;
}

/* false: no bundle can be stored there. */
static bool check_directory(struct report *r, const char *name, const char *dir, enum state without)
{
	char path[300];
	struct statvfs fs;
	int e, fd;

	if (!exists(dir)) {
		e = cannot_make(dir);
		say(r, name, e ? without : IS_OK, "bundles cannot be stored there",
		    "create the directory, or choose another (Directory=, Fallback=)", "%s: not there%s%s", dir,
		    e ? ", and cannot be made: " : " yet; stallboxd makes it", e ? strerror(e) : "");
		return !e;
	}
	snprintf(path, sizeof(path), "%s/.tmp-doctor-%d", dir, getpid());
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0) {
		say(r, name, without, "bundles cannot be stored there",
		    "let the agent's user write to it, mount it read-write, or choose another (Directory=, Fallback=)",
		    "%s: %s", dir, strerror(errno));
		return false;
	}
	close(fd);
	unlink(path);
	if (statvfs(dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < ROOM_BYTES)
		say(r, name, DEGRADED, "a large bundle does not fit", "free space on its file system", "%s: %llu MiB free", dir,
		    (unsigned long long)((uint64_t)fs.f_bavail * fs.f_frsize >> 20));
	else
		say(r, name, IS_OK, "", "", "%s: can be written", dir);
	return true;
}

/* One of the two is enough. */
static void check_directories(struct report *r, const struct options *o)
{
	const struct spool *s = &o->spool;
	bool first = check_directory(r, "spool", s->dir, s->fallback[0] ? DEGRADED : MISSING);

	if (s->fallback[0])
		check_directory(r, "fallback", s->fallback, first ? DEGRADED : MISSING);
}

/* It says that it is there once a minute. */
#define UPLOADER_GONE_S 300

static void check_upload(struct report *r, const struct options *o)
{
	const struct config_upload *u = &o->config.upload;
	struct stat st = {};
	long long age = -1;

	if (!u->endpoint[0] && !u->pyroscope_url[0]) {
		say(r, "upload", IS_OK, "", "", "neither Endpoint= nor PyroscopeUrl= is set");
		return;
	}
	if (stat(UPLOAD_STATUS, &st) == 0)
		age = (long long)(sb_realtime_ms() / 1000) - (long long)st.st_mtim.tv_sec;
	if (age >= 0 && age <= UPLOADER_GONE_S) {
		say(r, "upload", IS_OK, "", "", "stallbox-upload was here %lld s ago", age);
		return;
	}
	say(r, "upload", DEGRADED,
	    u->endpoint[0] ? "nothing is delivered; bundles wait for it, and once they are MaxUse= no new one is stored" :
			     "no profile is pushed",
	    "systemctl enable --now stallbox-upload, or unset what is set in [Upload]", "%s is set, and stallbox-upload does not run: %s %s",
	    u->endpoint[0] ? "Endpoint=" : "PyroscopeUrl=", UPLOAD_STATUS, age < 0 ? "is not there" : "is old");
}

static void check_group(struct report *r, const struct options *o)
{
	const char *name = control_group(o->config.storage.group);
	const struct group *g = getgrnam(name);

	say(r, "group", g ? IS_OK : DEGRADED, "only root can ask the agent and read bundles",
	    "groupadd --system " CONTROL_GROUP_NAME ", and add to it who may", "%s%s", name,
	    g ? "" : ": there is no such group");
}

static void check_configuration(struct report *r, const struct options *o)
{
	say(r, "configuration", o->config_bad ? MISSING : IS_OK, "stallboxd does not start",
	    "correct it: every error is on standard error, with its line", "%s",
	    o->config_bad ? "wrong; what follows is of the defaults" : "valid");
}

static void check_agent(struct report *r, const struct options *o)
{
	uint32_t pid = probes_owner(o->config.recorder.bpffs);

	say(r, "agent", pid || !o->config.recorder.pin ? IS_OK : DEGRADED, "a freeze by a person, psi, system and probe triggers need one",
	    "systemctl start stallboxd, or stallboxd", pid ? "runs, pid %u" : "does not run%.0u", pid);
}

int doctor(struct options *o, bool json)
{
	static char buf[64 << 10];
	struct report r = { .json = json, .text = { .p = buf, .cap = sizeof(buf) } };
	unsigned long long caps = capabilities_effective();

	if (json)
		text_put(&r.text, "\"checks\":[");
	check_configuration(&r, o);
	check_agent(&r, o);
	check_kernel(&r);
	check_lockdown(&r);
	check_capabilities(&r, caps);
	check_paranoid(&r, caps);
	check_kallsyms(&r);
	check_jit(&r);
	check_psi(&r);
	check_mounts(&r, o, caps);
	check_memlock(&r, caps);
	check_fifo(&r);
	check_directories(&r, o);
	check_group(&r, o);
	check_upload(&r, o);
	check_programs(&r, o);
	if (json)
		printf("{\"version\":\"%s\",\"can_record\":%s,%s]}\n", SB_VERSION, r.worst < MISSING ? "true" : "false", buf);
	else
		printf("%s%s\n", buf, r.worst == MISSING ? "stallboxd cannot record here" :
		       r.worst == DEGRADED ? "stallboxd can record here, with less evidence" : "nothing is missing");
	return r.worst == MISSING ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
