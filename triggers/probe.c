// SPDX-License-Identifier: BSD-2-Clause
/*
 * Health probes. Each runs in a helper process with its own clock, so that nothing a probe
 * does can hold up the agent; every single attempt runs in a child of that helper, because
 * reading /proc/PID/cmdline or resolving a name can block without a deadline. The helper
 * tells the agent when an attempt fails, up to the N in a row that fire, and when one is well again.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "triggers/parse.h"

enum probe_type { PROBE_HTTP, PROBE_TCP, PROBE_UNIX, PROBE_EXEC, PROBE_CMDLINE };

struct probe {
	enum probe_type type;
	char host[256], port[16], path[TRIGGER_SPEC_MAX]; /* path: URL path, socket, command */
	char comm[TRIGGER_COMM_LEN];
	unsigned long pid, status, fails;
	uint64_t timeout_ns, every_ns;
	uint64_t held_ns; /* it must have failed for so long, too */
	const char *proc;
	pid_t helper;
};

struct probe_verdict {
	uint64_t ns;
	uint32_t fails;
	bool fires;
	char why[160];
};

/* A stuck attempt cannot always be killed (D state); beyond this none is added. */
#define MAX_STUCK 3

/* ---- parsing ------------------------------------------------------------------------ */

static int parse_address(struct probe *p, char **rest, bool path, char *ret_error, size_t len)
{
	char *s = *rest, *end, *host = s;

	if (*s == '[') { /* IPv6 */
		host = s + 1;
		end = strchr(s, ']');
		if (!end || end[1] != ':')
			return spec_error(ret_error, len, "bad address '%s', expected [ADDRESS]:PORT", s);
		*end = '\0';
		s = end + 2;
	} else {
		end = strchr(s, ':');
		if (!end)
			return spec_error(ret_error, len, "no port in '%s', expected HOST:PORT, for example "
					  "probe:http://127.0.0.1:8123/ping", s);
		*end = '\0';
		s = end + 1;
	}
	snprintf(p->host, sizeof(p->host), "%s", host);
	end = s + strcspn(s, path ? "/:" : ":");
	snprintf(p->port, sizeof(p->port), "%.*s", (int)SB_MIN(end - s, 15L), s);
	if (strspn(p->port, "0123456789") != strlen(p->port) || !p->port[0] ||
	    strtoul(p->port, NULL, 10) > 65535)
		return spec_error(ret_error, len, "bad port '%s', expected 1 to 65535", p->port);
	strcpy(p->path, "/");
	if (*end == '/') {
		s = end;
		end = s + strcspn(s, ":");
		snprintf(p->path, sizeof(p->path), "%.*s", (int)(end - s), s);
	}
	*rest = *end == ':' ? end + 1 : NULL;
	return 0;
}

static int parse_kind(struct probe *p, char **rest, char *ret_error, size_t len)
{
	char *word;

	if (!strncmp(*rest, "http://", 7)) {
		p->type = PROBE_HTTP;
		*rest += 7;
		return parse_address(p, rest, true, ret_error, len);
	}
	if (!strncmp(*rest, "tcp://", 6)) {
		p->type = PROBE_TCP;
		*rest += 6;
		return parse_address(p, rest, false, ret_error, len);
	}
	word = spec_next(rest);
	if (!strcmp(word, "cmdline")) {
		p->type = PROBE_CMDLINE;
		return 0;
	}
	if (strcmp(word, "unix") && strcmp(word, "exec"))
		return spec_error(ret_error, len, "unknown probe '%s', expected http://, tcp://, unix:, "
				  "exec: or cmdline:, for example probe:tcp://127.0.0.1:5432", word);
	p->type = *word == 'u' ? PROBE_UNIX : PROBE_EXEC;
	word = spec_next(rest);
	if (!word || !*word)
		return spec_error(ret_error, len, "nothing to probe, expected a %s",
				  p->type == PROBE_UNIX ? "socket path" : "command");
	snprintf(p->path, sizeof(p->path), "%s", word);
	return 0;
}

static int parse_option(struct probe *p, const char *word, char *ret_error, size_t len)
{
	const char *v;

	if ((v = spec_value(word, "timeout"))) {
		if (parse_duration_ns(v, &p->timeout_ns) < 0 || p->timeout_ns < NSEC_PER_MSEC ||
		    p->timeout_ns > 60 * NSEC_PER_SEC)
			return spec_error(ret_error, len, "bad timeout '%s', expected 1ms to 60s", v);
	} else if ((v = spec_value(word, "every"))) {
		if (parse_duration_ns(v, &p->every_ns) < 0 || p->every_ns < 10 * NSEC_PER_MSEC ||
		    p->every_ns > 3600 * NSEC_PER_SEC)
			return spec_error(ret_error, len, "bad interval '%s', expected 10ms to 1h", v);
	} else if ((v = spec_value(word, "fails"))) {
		if (parse_count(v, 1, 1000, &p->fails) < 0)
			return spec_error(ret_error, len, "bad number '%s', expected fails=1 to 1000", v);
	} else if ((v = spec_value(word, "status")) && p->type == PROBE_HTTP) {
		if (parse_count(v, 100, 599, &p->status) < 0)
			return spec_error(ret_error, len, "bad status '%s', expected 100 to 599", v);
	} else if ((v = spec_value(word, "comm")) && p->type == PROBE_CMDLINE) {
		if (!*v || strlen(v) >= sizeof(p->comm))
			return spec_error(ret_error, len, "bad comm '%s', expected 1 to 15 bytes", v);
		strcpy(p->comm, v);
	} else if ((v = spec_value(word, "pid")) && p->type == PROBE_CMDLINE) {
		if (parse_count(v, 1, 1UL << 22, &p->pid) < 0)
			return spec_error(ret_error, len, "bad pid '%s', expected a number", v);
	} else {
		return spec_error(ret_error, len, "unknown option '%s', expected timeout=, every=, fails=%s",
				  word, p->type == PROBE_HTTP ? " or status=" :
				  p->type == PROBE_CMDLINE ? ", comm= or pid=" : "");
	}
	return 0;
}

static int probe_parse(struct trigger *t, const char *args, char *ret_error, size_t len)
{
	struct probe *p = t->state = calloc(1, sizeof(*p));
	char copy[TRIGGER_SPEC_MAX], *rest = copy, *word;
	int r;

	if (!p)
		return -ENOMEM;
	p->timeout_ns = p->every_ns = NSEC_PER_SEC;
	p->fails = 2;
	strcpy(copy, args);
	r = parse_kind(p, &rest, ret_error, len);
	while (r == 0 && (word = spec_next(&rest)))
		r = parse_option(p, word, ret_error, len);
	if (r < 0)
		return r;
	if (p->type == PROBE_CMDLINE && !p->comm[0] == !p->pid)
		return spec_error(ret_error, len, "cmdline needs one of comm= and pid=, for example "
				  "probe:cmdline:comm=postgres:timeout=500ms");
	t->unit = "failures";
	t->threshold = (double)p->fails;
	p->held_ns = t->held_ns;
	return refuse_hysteresis(t, "none: a probe fires again only after a success", ret_error, len);
}

/* ---- one attempt, in a child that may hang ---------------------------------------------- */

static int connect_host(const struct probe *p)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	int fd = -1;

	if (getaddrinfo(p->host, p->port, &hints, &list) != 0)
		return -1;
	for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

/* Exit code of an attempt: 0 healthy, else index into reasons[]. */
static const char *const reasons[] = { "", "cannot connect", "no valid answer", "unexpected status",
				       "command failed", "no such process" };

static int attempt_http(const struct probe *p)
{
	char text[TRIGGER_SPEC_MAX + 400];
	int fd = connect_host(p), status = 0, n;
	size_t len = 0;

	if (fd < 0)
		return 1;
	n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: stallbox\r\n"
		     "Connection: close\r\n\r\n", p->path, p->host, p->port);
	if (write(fd, text, (size_t)n) != n)
		return 2;
	while (len < 64) {
		ssize_t k = read(fd, text + len, 64 - len);

		if (k <= 0)
			break;
		len += (size_t)k;
		text[len] = '\0';
		if (memchr(text, '\n', len))
			break;
	}
	text[len] = '\0';
	if (sscanf(text, "HTTP/%*d.%*d %d", &status) != 1)
		return 2;
	if (p->status)
		return status == (int)p->status ? 0 : 3;
	return status >= 200 && status < 400 ? 0 : 3;
}

static int attempt_unix(const struct probe *p)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.107s", p->path);
	return fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? 0 : 1;
}

static int attempt_exec(const struct probe *p)
{
	struct sched_param sp = {};
	int null = open("/dev/null", O_RDWR), status;
	pid_t pid;

	pid = fork();
	if (pid == 0) {
		sched_setscheduler(0, SCHED_OTHER, &sp);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		execl("/bin/sh", "sh", "-c", p->path, (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
			       WEXITSTATUS(status) == 0 ? 0 : 4;
}

/* The thread group leader with this name; comm takes no lock of the process. */
static unsigned long find_comm(const struct probe *p)
{
	DIR *d = opendir(p->proc);
	struct dirent *e;
	unsigned long pid = 0;

	while (d && !pid && (e = readdir(d))) {
		char path[300], comm[32] = "";
		int fd;

		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "%s/%s/comm", p->proc, e->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (read_again(fd, comm, sizeof(comm)) > 0) {
			comm[strcspn(comm, "\n")] = '\0';
			if (!strcmp(comm, p->comm))
				pid = strtoul(e->d_name, NULL, 10);
		}
		close(fd);
	}
	if (d)
		closedir(d);
	return pid;
}

/* The read takes the victim's mmap_lock: it hangs exactly when the process is stuck. That is
 * the point of this probe, and why it runs in a process that we can afford to lose. */
static int attempt_cmdline(const struct probe *p)
{
	unsigned long pid = p->pid ? p->pid : find_comm(p);
	char path[300], text[64];
	int fd;

	if (!pid)
		return 5;
	snprintf(path, sizeof(path), "%s/%lu/%s", p->proc, pid, "cmdline");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof(text)) >= 0 ? 0 : 5;
}

static int attempt(const struct probe *p)
{
	switch (p->type) {
	case PROBE_HTTP:
		return attempt_http(p);
	case PROBE_TCP:
		return connect_host(p) >= 0 ? 0 : 1;
	case PROBE_UNIX:
		return attempt_unix(p);
	case PROBE_EXEC:
		return attempt_exec(p);
	default:
		return attempt_cmdline(p);
	}
}

/* ---- the helper --------------------------------------------------------------------------- */

struct helper {
	const struct probe *p;
	int out_fd;
	pid_t stuck[MAX_STUCK];
	int n_stuck;
};

static void reap_stuck(struct helper *h)
{
	for (int i = 0; i < h->n_stuck; i++) {
		if (waitpid(h->stuck[i], NULL, WNOHANG) != 0)
			h->stuck[i--] = h->stuck[--h->n_stuck];
	}
}

/* 0: healthy; else *ret_why. Never longer than the timeout. */
static int attempt_with_deadline(struct helper *h, const char **ret_why)
{
	int done[2], status, r;
	struct pollfd pfd = { .events = POLLIN };
	pid_t pid;

	reap_stuck(h);
	if (h->n_stuck == MAX_STUCK) {
		*ret_why = "earlier attempts still hang";
		return -1;
	}
	if (pipe2(done, O_CLOEXEC) < 0)
		return 0; /* our own trouble is no verdict on the service */
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		_exit(attempt(h->p));
	}
	close(done[1]);
	pfd.fd = done[0];
	r = pid < 0 ? 0 : poll(&pfd, 1, (int)(h->p->timeout_ns / NSEC_PER_MSEC));
	close(done[0]);
	if (pid < 0)
		return 0;
	if (r == 0) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
		if (waitpid(pid, NULL, WNOHANG) == 0)
			h->stuck[h->n_stuck++] = pid;
		*ret_why = "no answer in time";
		return -1;
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) == 0)
		return 0;
	r = WEXITSTATUS(status);
	*ret_why = (size_t)r < SB_ARRAY_SIZE(reasons) ? reasons[r] : "failed";
	return -1;
}

/* What a person sees of the probe, and the hit: once per outage, the next one needs a success in between. */
static int tell(struct helper *h, uint32_t fails, bool fires, const char *why)
{
	struct probe_verdict v = { .ns = sb_monotonic_ns(), .fails = fails, .fires = fires };

	snprintf(v.why, sizeof(v.why), "%s", why);
	return write(h->out_fd, &v, sizeof(v)) < 0 ? -errno : 0;
}

static void sleep_until(uint64_t *next, uint64_t every_ns)
{
	struct timespec ts;

	*next = SB_MAX(*next + every_ns, sb_monotonic_ns());
	ts = (struct timespec){ (time_t)(*next / NSEC_PER_SEC), (long)(*next % NSEC_PER_SEC) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void helper_loop(struct helper *h)
{
	uint64_t next = sb_monotonic_ns(), failed_ns = 0;
	const struct probe *p = h->p;
	uint32_t fails = 0;
	bool told = false;
	int r = 0;

	/* Where the agent does not read for long its pipe is full: then it is told later. */
	while (r == 0 || r == -EAGAIN) {
		uint64_t begun_ns = sb_monotonic_ns();
		const char *why = "";

		r = 0;
		if (attempt_with_deadline(h, &why) == 0) {
			if (fails)
				r = tell(h, 0, false, why);
			fails = 0;
			told = false;
		} else {
			if (!fails++)
				failed_ns = begun_ns;
			if (!told && fails >= p->fails && sb_monotonic_ns() - failed_ns >= p->held_ns) {
				r = tell(h, fails, true, why);
				told = r == 0;
			} else if (fails <= p->fails) {
				r = tell(h, fails, false, why);
			}
		}
		sleep_until(&next, p->every_ns);
	}
}

static int probe_arm(struct trigger *t, const struct trigger_env *env)
{
	struct probe *p = t->state;
	int out[2];

	p->proc = env->proc;
	/* Where no socket is to be had a service would look dead that is not. */
	if (p->type == PROBE_HTTP || p->type == PROBE_TCP) {
		_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return -errno;
	}
	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	p->helper = fork();
	if (p->helper < 0) {
		int r = -errno;

		close(out[0]);
		close(out[1]);
		return r;
	}
	if (p->helper == 0) {
		struct helper h = { .p = p, .out_fd = out[1] };
		sigset_t none;

		/* What the agent has open must end when the agent closes it. */
		if (out[1] > 3)
			close_range(3, (unsigned int)out[1] - 1, 0);
		close_range((unsigned int)out[1] + 1, ~0U, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "stallbox-probe");
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGPIPE, SIG_IGN);
		signal(SIGCHLD, SIG_DFL);
		close(out[0]);
		if (env->in_helper)
			env->in_helper();
		helper_loop(&h);
		_exit(0);
	}
	close(out[1]);
	t->fd = out[0];
	t->events = EPOLLIN;
	return 0;
}

static int probe_check(struct trigger *t, const struct trigger_env *env, uint64_t now_ns,
		       struct trigger_hit *ret)
{
	struct probe *p = t->state;
	struct probe_verdict v;
	ssize_t n = read(t->fd, &v, sizeof(v));

	(void)env;
	(void)now_ns;
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n != sizeof(v))
		return -EPIPE; /* the helper is gone */
	t->value = v.fails;
	t->met = v.fails >= p->fails;
	if (!v.fires)
		return 0;
	ret->fired_ns = v.ns;
	ret->value = v.fails;
	ret->threshold = t->threshold;
	ret->unit = "failures";
	snprintf(ret->detail, sizeof(ret->detail), "%.100s: %.80s, %u times in a row (timeout %llu ms)",
		 t->spec, v.why, v.fails, (unsigned long long)(p->timeout_ns / NSEC_PER_MSEC));
	return 1;
}

static void probe_disarm(struct trigger *t)
{
	struct probe *p = t->state;

	if (p->helper > 0) {
		kill(p->helper, SIGKILL);
		waitpid(p->helper, NULL, 0);
	}
	p->helper = 0;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

const struct trigger_ops trigger_probe = {
	.kind = "probe",
	.syntax = "probe:http://HOST:PORT/PATH | tcp://HOST:PORT | unix:PATH | exec:COMMAND |\n"
		  "        cmdline:comm=NAME [:timeout=TIME][:every=TIME][:fails=N][:status=CODE]",
	.parse = probe_parse,
	.arm = probe_arm,
	.check = probe_check,
	.disarm = probe_disarm,
};
