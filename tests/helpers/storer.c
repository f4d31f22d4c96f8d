// SPDX-License-Identifier: BSD-2-Clause
/*
 * Stores one bundle as the process of a capture does, by the same code, without a kernel to record:
 *
 *   storer DIR FALLBACK FD NAME KIB [SOURCE]
 *
 * FD is the process's end of a SEQPACKET socket: its reports (struct capture_report) come from there, orders go in.
 * It says how long an order is (CAPTURE_SHOT), and waits for a first one of any length before it stores, so that
 * somebody can attach to it. The bundle has two parts of about KIB and a footer. SOURCE: its first part is written
 * there beforehand, for comparison. It ends with 3 where something was written that nobody had claimed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "recorder/capture_impl.h"

static struct capture_work work;
static bool unclaimed;

static bool is_claimed(void)
{
	for (int d = 0; d < SPOOL_DIRS; d++) {
		for (size_t i = 0; i < STORAGE_CLAIMS; i++) {
			if (__atomic_load_n(&work.storage.dir[d].claim[i].bytes, __ATOMIC_SEQ_CST))
				return true;
		}
	}
	return false;
}

/* Takes the place of libc's: whatever is written is synced before its claim ends. */
int fsync(int fd)
{
	unclaimed = unclaimed || !is_claimed();
	return (int)syscall(SYS_fsync, fd);
}

/* Text that does not compress well, the same every time. */
static void write_marks(struct freezer *z, unsigned int kib)
{
	static uint64_t seed = 1;
	char text[1500];

	for (unsigned int i = 0; i < kib; i++) {
		struct bundle_mark m = { sb_monotonic_ns(), "storer", text };

		for (size_t k = 0; k + 1 < sizeof(text); k++) {
			seed = sb_mix64(seed + k);
			text[k] = (char)('0' + seed % 64);
		}
		text[sizeof(text) - 1] = '\0';
		bundle_writer_marks(z->f.w, &m, 1);
	}
	bundle_writer_flush(z->f.w);
}

static int save(const char *path, const struct membuf *m)
{
	_cleanup_close_ int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0640);

	return fd >= 0 && write(fd, m->data, m->len) == (ssize_t)m->len ? 0 : -1;
}

int main(int argc, char **argv)
{
	static struct freezer z;
	struct capture_config c = { .gid = (gid_t)-1, .work = &work, .known_fd = -1 };
	struct bundle_header header = { .hostname = "storer", .trigger = { .name = "manual", .kind = "manual" } };
	struct capture_order go;

	if (argc < 6) {
		fprintf(stderr, "usage: storer DIR FALLBACK FD NAME KIB [SOURCE]\n");
		return 2;
	}
	snprintf(c.spool.dir, sizeof(c.spool.dir), "%s", argv[1]);
	snprintf(c.spool.fallback, sizeof(c.spool.fallback), "%s", argv[2]);
	snprintf(z.order.file, sizeof(z.order.file), "%s" BUNDLE_SUFFIX, argv[4]);
	z.c = &c;
	z.fd = atoi(argv[3]);
	if (store_init(&z) < 0 || bundle_writer_new(membuf_write, &z.out, 3, &z.f.w) < 0)
		return 1;
	bundle_writer_header(z.f.w, &header);
	write_marks(&z, (unsigned int)atoi(argv[5]));
	capture_seal_part(&z);
	if (argc > 6 && save(argv[6], &z.part[0]) < 0)
		return 1;
	capture_report(&z, CAPTURE_SHOT, sizeof(struct capture_order), 0, 0);
	if (TEMP_FAILURE_RETRY(recv(z.fd, &go, sizeof(go), 0)) <= 0)
		return 1;
	store_first(&z);
	write_marks(&z, (unsigned int)atoi(argv[5]));
	store_rest(&z, false);
	store_done(&z);
	return unclaimed ? 3 : 0;
}
