// SPDX-License-Identifier: BSD-2-Clause
#include "format/confined.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifdef __x86_64__
#define OUR_ARCH AUDIT_ARCH_X86_64
#define OTHER_ABI 0x40000000 /* x32: of the same architecture, with other numbers */
#else
#define OUR_ARCH AUDIT_ARCH_AARCH64
#define OTHER_ABI 0xffffffff
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

#define POLL_MS 200 /* as often it is looked whether to stop */

static void __attribute__((noreturn)) give_up(void)
{
	_exit(126);
}

/* ---- files ------------------------------------------------------------------------------ */

static int landlock_abi(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool confined_has_landlock(void)
{
	return landlock_abi() > 0;
}

/* What is not there need not be allowed. */
static void allow(int ruleset, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = open(path, O_PATH | O_CLOEXEC) };

	if (rule.parent_fd < 0)
		return;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		give_up();
	close(rule.parent_fd);
}

/* Everything that the first version knows is refused but for what is allowed; and cutting files, where it can be. */
static void confine_files(const char *program)
{
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE, run = read | LANDLOCK_ACCESS_FS_EXECUTE;
	struct landlock_ruleset_attr all = { .handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
	static const char *const libraries[] = { "/usr", "/lib", "/lib64" };
	int abi = landlock_abi(), ruleset;

	if (abi < 1)
		return;
	if (abi >= 3)
		all.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (ruleset < 0)
		give_up();
	allow(ruleset, ".", read);
	allow(ruleset, program, run);
	allow(ruleset, "/etc/ld.so.cache", read);
	allow(ruleset, "/dev/null", read | LANDLOCK_ACCESS_FS_WRITE_FILE);
	for (size_t i = 0; i < SB_ARRAY_SIZE(libraries); i++)
		allow(ruleset, libraries[i], run | LANDLOCK_ACCESS_FS_READ_DIR);
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		give_up();
	close(ruleset);
}

/* ---- system calls ------------------------------------------------------------------------ */

/* By which one process reaches another of the same user. prlimit64() is for itself alone. */
static const unsigned int refused[] = {
	SYS_socket, SYS_socketpair, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
	SYS_pidfd_open, SYS_pidfd_send_signal, SYS_pidfd_getfd, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
	SYS_io_uring_setup, SYS_setpriority, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr,
	SYS_sched_setaffinity, SYS_ioprio_set, SYS_migrate_pages, SYS_move_pages,
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)
#define EQUAL(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, yes, no)
#define ABOVE(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, k, yes, no)

static void confine_calls(void)
{
	const struct sock_filter head[] = {
		LOAD(arch),
		EQUAL(OUR_ARCH, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		ABOVE(OTHER_ABI, 0, 1),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		EQUAL(SYS_prlimit64, 0, 3),
		LOAD(args[0]), /* the lower half, on both */
		EQUAL(0, 0, 1),
		RETURN(SECCOMP_RET_ALLOW),
		LOAD(nr), /* another process's, or no prlimit64() */
	};
	struct sock_filter filter[SB_ARRAY_SIZE(head) + 2 * SB_ARRAY_SIZE(refused) + 3];
	size_t n = SB_ARRAY_SIZE(head);
	struct sock_fprog program = { .filter = filter };

	memcpy(filter, head, sizeof(head));
	for (size_t i = 0; i < SB_ARRAY_SIZE(refused); i++) {
		filter[n++] = (struct sock_filter)EQUAL(refused[i], 0, 1);
		filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM);
	}
	filter[n++] = (struct sock_filter)EQUAL(SYS_prlimit64, 0, 1);
	filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | EPERM);
	filter[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	program.len = (unsigned short)n;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		give_up();
}

/* ---- the process -------------------------------------------------------------------------- */

static void limit(int what, uint64_t value)
{
	struct rlimit l = { value, value };

	if (setrlimit(what, &l) < 0)
		give_up();
}

/* As execvp() finds it. */
static bool find_program(const char *program, char ret[PATH_MAX])
{
	const char *dir = strchr(program, '/') ? NULL : getenv("PATH");

	if (!dir)
		return (size_t)snprintf(ret, PATH_MAX, "%s", program) < PATH_MAX;
	for (size_t n; *dir; dir += n + (dir[n] == ':')) {
		n = strcspn(dir, ":");
		if ((size_t)snprintf(ret, PATH_MAX, "%.*s/%s", (int)n, dir, program) < PATH_MAX && !access(ret, X_OK))
			return true;
	}
	return false;
}

/* Its parent may have threads: system calls alone. */
static void __attribute__((noreturn)) become(const struct confined *c, const char *path)
{
	int out = fcntl(c->out, F_DUPFD, 3), err = fcntl(c->err, F_DUPFD, 3), null = open("/dev/null", O_RDONLY);
	sigset_t none;

	/* Either may be one of these three, where our parent began without them. */
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir(c->dir) < 0)
		give_up();
	close_range(3, ~0U, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL); /* whatever is ignored stays so: its end is to tell of a limit */
	signal(SIGXFSZ, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* of the thread that waits for it */
	limit(RLIMIT_CPU, c->cpu_s);
	limit(RLIMIT_AS, c->memory_bytes);
	limit(RLIMIT_FSIZE, c->output_bytes);
	limit(RLIMIT_CORE, 0);
	(void)!nice(10);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		give_up();
	confine_files(path);
	confine_calls();
	execv(path, c->argv);
	_exit(127);
}

static int wait_for(pid_t pid, const struct confined *c)
{
	uint64_t end = sb_monotonic_ns() + c->limit_s * NSEC_PER_SEC;
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int status;

	while (pidfd >= 0 && !(p.revents & POLLIN) && !(c->stop && *c->stop) && sb_monotonic_ns() < end)
		poll(&p, 1, POLL_MS);
	if (!(p.revents & POLLIN))
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return p.revents & POLLIN ? status : -ETIME;
}

int confined_run(const struct confined *c)
{
	char path[PATH_MAX];
	pid_t pid;

	if (!find_program(c->program, path))
		return W_EXITCODE(127, 0);
	pid = fork();
	if (pid == 0)
		become(c, path);
	return pid < 0 ? -errno : wait_for(pid, c);
}
