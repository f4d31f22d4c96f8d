// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "recorder/privileges.h"

/* It gets nothing of the agent's but the memory for the answer: neither its socket, in whose name it must not
 * answer, nor the maps. */
static _Noreturn void read_files(const struct options *o, struct reload_answer *answer, int fd)
{
	const struct sched_param ordinary = {};

	prctl(PR_SET_NAME, "stallbox-config");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sched_setscheduler(0, SCHED_OTHER, &ordinary);
	if (dup2(fd, 3) < 0 || close_range(4, ~0U, 0) < 0)
		_exit(1);
	options_load_again(o, &answer->config, &answer->errors);
	answer->whole = true;
	_exit(0);
}

void reload_forget_answer(struct reload *r)
{
	if (r->answer)
		munmap(r->answer, sizeof(*r->answer));
	r->answer = NULL;
	r->read = false;
}

int reload_start(struct reload *r, const struct options *o)
{
	int pair[2];

	if (!reload_reap(r))
		return -EBUSY;
	reload_forget_answer(r);
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	r->answer = mmap(NULL, sizeof(*r->answer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	r->pid = r->answer == MAP_FAILED ? -1 : fork();
	if (r->pid < 0) {
		int e = errno;

		if (r->answer == MAP_FAILED)
			r->answer = NULL;
		reload_forget_answer(r);
		r->pid = 0;
		close(pair[0]);
		close(pair[1]);
		return -e;
	}
	if (r->pid == 0) {
		if (privileges_become(PRIVILEGES_NONE) < 0)
			_exit(1);
		read_files(o, r->answer, pair[1]);
	}
	close(pair[1]);
	r->fd = pair[0];
	r->deadline_ns = sb_monotonic_ns() + RELOAD_TIMEOUT_NS;
	return 0;
}

int reload_poll(struct reload *r, uint64_t now_ns)
{
	struct pollfd pfd = { .fd = r->fd, .events = POLLIN };

	if (poll(&pfd, 1, 0) <= 0) {
		if (now_ns < r->deadline_ns)
			return -EAGAIN;
		kill(r->pid, SIGKILL);
	}
	close(r->fd); /* which also ends its place in the epoll set */
	r->fd = -1;
	if (!pfd.revents)
		return -ETIMEDOUT;
	r->read = r->answer->whole;
	return r->read ? 0 : -EPIPE;
}

bool reload_reap(struct reload *r)
{
	if (r->pid > 0 && (r->fd >= 0 || waitpid(r->pid, NULL, WNOHANG) == 0))
		return false;
	r->pid = 0;
	return true;
}
