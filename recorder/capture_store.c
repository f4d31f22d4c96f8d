// SPDX-License-Identifier: BSD-2-Clause
/* From memory to the disk, in parts: what was before the trigger, what followed, names and footer. What no directory
 * takes is held in memory and tried again. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "format/log.h"
#include "recorder/capture_impl.h"
#include "recorder/enrich.h"
#include "recorder/known.h"
#include "recorder/name_user.h"
#include "recorder/privileges.h"

/* Between attempts to store what is held: doubled each time. */
#define RETRY_FIRST_NS NSEC_PER_SEC
#define RETRY_MAX_NS (30 * NSEC_PER_SEC)
#define KNOWN_TIMEOUT_MS 2000 /* the mapping process answers within a round of 50 ms */
/* Without an agent nobody says that the memory is needed for others. */
#define ALONE_MAX_NS (600 * NSEC_PER_SEC)

void count_work(struct freezer *z)
{
	uint64_t ns = sb_now_ns(CLOCK_PROCESS_CPUTIME_ID);
	struct rusage ru;

	if (getrusage(RUSAGE_CHILDREN, &ru) == 0) /* helpers that looked up names */
		ns += (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * NSEC_PER_SEC +
		      (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * NSEC_PER_USEC;
	storage_add(z->c->work->cpu_ns, ns - z->counted_ns);
	z->counted_ns = ns;
}

static void set(struct freezer *z, bool *flag)
{
	pthread_mutex_lock(&z->lock);
	*flag = true;
	pthread_cond_broadcast(&z->changed);
	pthread_mutex_unlock(&z->lock);
}

static void await(struct freezer *z, const bool *flag)
{
	pthread_mutex_lock(&z->lock);
	while (!*flag)
		pthread_cond_wait(&z->changed, &z->lock);
	pthread_mutex_unlock(&z->lock);
}

/* The thread that stores the first part while the main one goes on. It allocates nothing. */
static void *storer_main(void *arg)
{
	struct freezer *z = arg;
	struct place *p;
	uint64_t now;
	int error;

	prctl(PR_SET_NAME, "stallbox-store");
	await(z, &z->pre_sealed);
	p = places_store(z, &error);
	now = sb_monotonic_ns();
	if (p)
		capture_report_path(z, CAPTURE_PRE_DURABLE, p, z->pre_events);
	else
		capture_report(z, CAPTURE_PRE_KEPT, capture_bytes(z), error, z->pre_events);
	z->pre_durable_ns = p ? now : 0;
	set(z, &z->pre_done);
	return NULL;
}

int store_init(struct freezer *z)
{
	int r = places_init(z);

	return r < 0 ? r : places_thread(storer_main, z);
}

void store_first(struct freezer *z)
{
	set(z, &z->pre_sealed);
}

/* When the first part was durable, once its thread knows; 0: it is not. */
static uint64_t pre_durable_ns(struct freezer *z)
{
	if (!z->n_parts)
		return 0;
	await(z, &z->pre_done);
	return z->pre_durable_ns;
}

static void add_names(struct freezer *z, struct bundle_footer *footer, bool names)
{
	SB_CLEANUP(known_freep) struct known *known = NULL;

	/* Without an answer the processes themselves are asked, each with a deadline. */
	if (known_ask(z->c->known_fd, KNOWN_TIMEOUT_MS, &known) == 0)
		z->f.known = known;
	if (!names)
		map_user(&z->f);
	footer->symbolized = names && enrich(&z->f);
	z->f.known = NULL;
	footer->closed_ns = sb_monotonic_ns();
	bundle_writer_finish(z->f.w, footer);
	capture_seal_part(z);
}

/* Until the next attempt. false: the memory is needed, or nobody is there to need it for too long. */
static bool await_retry(const struct freezer *z, uint64_t wait_ns, uint64_t *alone_since)
{
	struct pollfd p = { .fd = *alone_since ? -1 : z->fd, .events = POLLIN };
	struct capture_order o;
	ssize_t n;

	if (poll(&p, 1, (int)(wait_ns / NSEC_PER_MSEC)) > 0) {
		n = recv(z->fd, &o, sizeof(o), MSG_DONTWAIT);
		if (n == sizeof(o) && o.type == CAPTURE_DROP)
			return false;
		if (n == 0) {
			*alone_since = sb_monotonic_ns();
			sleep_until(*alone_since + wait_ns);
		}
	}
	return !*alone_since || sb_monotonic_ns() - *alone_since < ALONE_MAX_NS;
}

/* Only what is in memory counts from now on: an unloaded recorder gives the kernel its memory back meanwhile. Threads
 * may be at work on other descriptors. */
static void let_go_of_kernel(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	DIR *fds = opendir("/proc/self/fd");
	unsigned long from, to;
	char text[512];
	struct dirent *e;

	while (maps && fgets(text, sizeof(text), maps)) {
		if (strstr(text, "anon_inode:bpf-map") && sscanf(text, "%lx-%lx", &from, &to) == 2)
			munmap((void *)from, to - from);
	}
	while (fds && (e = readdir(fds))) {
		ssize_t n = readlinkat(dirfd(fds), e->d_name, text, sizeof(text) - 1);

		text[n > 0 ? n : 0] = '\0';
		if (!strncmp(text, "anon_inode:bpf", 14) || !strcmp(text, "anon_inode:[perf_event]"))
			close(atoi(e->d_name));
	}
	if (maps)
		fclose(maps);
	if (fds)
		closedir(fds);
}

/* NULL: it is lost. */
static struct place *store_later(struct freezer *z, int *error)
{
	uint64_t wait_ns = RETRY_FIRST_NS, alone_since = 0;
	struct place *p = NULL;

	capture_report(z, CAPTURE_HELD, capture_bytes(z), *error, capture_events(z));
	let_go_of_kernel();
	while (!p && await_retry(z, wait_ns, &alone_since)) {
		storage_add(z->c->work->storage.retries, 1);
		p = places_store(z, error);
		wait_ns = SB_MIN(2 * wait_ns, RETRY_MAX_NS);
	}
	if (!p && alone_since)
		log_errno(*error, "the bundle %s, which no directory took, is lost", z->order.file);
	return p;
}

void store_rest(struct freezer *z, bool names)
{
	struct bundle_footer footer = { .pre_durable_ns = pre_durable_ns(z) };
	struct place *raw, *p;
	int error = 0;

	capture_seal_part(z);
	raw = places_store(z, &error);
	if (raw) {
		footer.raw_durable_ns = sb_monotonic_ns();
		capture_report_path(z, CAPTURE_RAW_DURABLE, raw, capture_events(z));
	}
	become_ordinary();
	munlockall(); /* a locked stack cannot grow beyond RLIMIT_MEMLOCK without CAP_IPC_LOCK */
	privileges_become(PRIVILEGES_NAMES);
	add_names(z, &footer, names);
	p = places_store(z, &error);
	if (!p)
		p = store_later(z, &error);
	count_work(z);
	if (p) {
		storage_add(z->c->work->storage.dir[p->which].stored, 1);
		storage_add(z->c->work->storage.dir[p->which].stored_bytes, capture_bytes(z));
	}
	if (p && !raw)
		capture_report_path(z, CAPTURE_RAW_DURABLE, p, capture_events(z));
	if (p && bundle_writer_error(z->f.w) == 0)
		capture_report_path(z, CAPTURE_COMPLETE, p, capture_events(z));
	else
		capture_report(z, CAPTURE_FAILED, capture_bytes(z), p ? -EIO : error, 0);
}

void store_done(struct freezer *z)
{
	shutdown(z->fd, SHUT_RDWR); /* nobody waits for us */
	places_settle(z);
}
