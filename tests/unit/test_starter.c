// SPDX-License-Identifier: BSD-2-Clause
/* The process that starts others, and the keeper that it starts: with nothing that it does not need, however late. */
#include <cap-ng.h>
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "recorder/capture.h"
#include "recorder/keeper.h"
#include "tests/unit/scratch.h"

#define WAIT_NS (60 * NSEC_PER_SEC)

static struct shared {
	struct capture_work work;
	int failing; /* forks that are still to fail */
	int rights, descriptors; /* of the keeper */
} *shared;

/* As where processes or memory have run out. */
pid_t fork(void)
{
	pid_t (*real)(void) = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");

	if (!shared->failing)
		return real();
	shared->failing--;
	errno = EAGAIN;
	return -1;
}

/* What it has, not what it does: that is test_retention's. */
void keeper_run(const struct spool *s, gid_t gid, struct storage *st)
{
	(void)s;
	(void)gid;
	capng_get_caps_process();
	shared->rights = capng_have_capabilities(CAPNG_SELECT_CAPS);
	shared->descriptors = count_files("/proc/self/fd") - 1; /* that of the directory itself */
	storage_set(st->kept_ns, sb_monotonic_ns());
}

static bool is_kept(void)
{
	uint64_t end = sb_monotonic_ns() + WAIT_NS;

	while (!storage_get(shared->work.storage.kept_ns) && sb_monotonic_ns() < end)
		usleep(10000);
	return storage_get(shared->work.storage.kept_ns);
}

static struct capture_process begin(int failing)
{
	static const struct probes probes;
	static struct capture_config c;
	struct capture_process starter;

	memset(shared, 0, sizeof(*shared));
	c = (struct capture_config){ .probes = &probes, .work = &shared->work, .known_fd = -1 };
	assert_int_equal(capture_starter(&c, NULL, 0, &starter), 0);
	shared->failing = failing;
	return starter;
}

static void test_keeper_has_nothing(void **state)
{
	int fd = dup(STDERR_FILENO); /* of the agent's */
	struct capture_process starter = begin(0);

	(void)state;
	assert_int_equal(capture_keep(&starter), 0);
	assert_true(is_kept());
	assert_int_equal(shared->rights, CAPNG_NONE);
	assert_in_range(shared->descriptors, 0, 3);
	close(fd);
	capture_stop(&starter);
}

static void test_fork_fails(void **state)
{
	struct capture_process starter = begin(1);

	(void)state;
	assert_int_equal(capture_keep(&starter), 0);
	assert_true(is_kept());
	assert_int_equal(shared->failing, 0);
	capture_stop(&starter);
}

/* Who asks has to know that he must ask again. */
static void test_nobody_hears(void **state)
{
	struct capture_process starter = begin(0);

	(void)state;
	capture_stop(&starter);
	assert_int_equal(capture_keep(&starter), -EBADF);
}

static int set_up_shared(void **state)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return shared == MAP_FAILED ? -1 : set_up(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keeper_has_nothing),
		cmocka_unit_test(test_fork_fails),
		cmocka_unit_test(test_nobody_hears),
	};

	return cmocka_run_group_tests(tests, set_up_shared, tear_down);
}
