// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/render.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "format/confined.h"

void render_init(struct render *r, const char *program)
{
	memset(r, 0, sizeof(*r));
	r->program = program;
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->turn, NULL);
}

static void first_line(int fd, char *ret, size_t len)
{
	ssize_t n = pread(fd, ret, len - 1, 0);

	ret[n > 0 ? n : 0] = '\0';
	ret[strcspn(ret, "\n")] = '\0';
}

static int judge(int status, int err, const char *program, char *ret_error, size_t len)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
		snprintf(ret_error, len, "cannot run '%s'", program);
	} else if (WIFSIGNALED(status)) {
		snprintf(ret_error, len, "the page needs more than %d s of CPU time, %llu MiB of memory or %llu MiB: make it "
			 "with 'stallbox html' of the downloaded bundle", RENDER_CPU_S, RENDER_MEMORY >> 20, RENDER_PAGE >> 20);
	} else {
		first_line(err, ret_error, len);
		if (!*ret_error)
			snprintf(ret_error, len, "stallbox html ended with status %d", WEXITSTATUS(status));
	}
	return -EIO;
}

static int run(const char *program, const char *dir, const char *name, int *ret_fd, char *ret_error, size_t len)
{
	_cleanup_close_ int out = memfd_create("page", MFD_CLOEXEC), err = memfd_create("errors", MFD_CLOEXEC);
	char *const argv[] = { (char *)"stallbox", (char *)"html", (char *)"--", (char *)name, NULL };
	const struct confined c = { .program = program, .argv = argv, .dir = dir, .out = out, .err = err,
				    .memory_bytes = RENDER_MEMORY, .output_bytes = RENDER_PAGE, .cpu_s = RENDER_CPU_S,
				    .limit_s = RENDER_LIMIT_S };
	int r;

	snprintf(ret_error, len, "cannot start a process");
	if (out < 0 || err < 0)
		return -errno;
	r = confined_run(&c);
	if (r == -ETIME)
		snprintf(ret_error, len, "the page took longer than %d s", RENDER_LIMIT_S);
	if (r >= 0)
		r = judge(r, err, program, ret_error, len);
	if (r == 0)
		*ret_fd = TAKE_FD(out);
	return r;
}

int render_page(struct render *r, const char *dir, const char *name, int *ret_fd, char *ret_error, size_t len)
{
	bool room;
	int result;

	pthread_mutex_lock(&r->lock);
	room = r->waiting <= RENDER_QUEUE; /* the one that runs is among them */
	r->waiting += room;
	pthread_mutex_unlock(&r->lock);
	if (!room) {
		snprintf(ret_error, len, "%d pages are waited for already", RENDER_QUEUE);
		return -EBUSY;
	}
	pthread_mutex_lock(&r->turn);
	result = run(r->program, dir, name, ret_fd, ret_error, len);
	pthread_mutex_unlock(&r->turn);
	pthread_mutex_lock(&r->lock);
	r->waiting--;
	pthread_mutex_unlock(&r->lock);
	return result;
}
