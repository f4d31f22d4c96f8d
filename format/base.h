/* SPDX-License-Identifier: BSD-2-Clause */
/* Small base that every layer may use: sizes, time units, cleanup, hashing. */
#ifndef SB_FORMAT_BASE_H
#define SB_FORMAT_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SB_VERSION "0.1.0"

#define NSEC_PER_SEC 1000000000ULL
#define NSEC_PER_MSEC 1000000ULL
#define NSEC_PER_USEC 1000ULL

#define SB_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define SB_MIN(a, b) ((a) < (b) ? (a) : (b))
#define SB_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Exit codes of every program of the project. */
enum sb_exit {
	SB_EXIT_OK = 0,
	SB_EXIT_FAILURE = 1,
	SB_EXIT_USAGE = 2,
	SB_EXIT_NOT_FOUND = 3,
	SB_EXIT_CONFIG = 78, /* EX_CONFIG of sysexits.h */
};

/* SB_CLEANUP(fn) T v: calls fn(&v) when v leaves its scope. */
#define SB_CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hands over what a cleanup variable owns: return TAKE_PTR(p); */
#define TAKE_PTR(p)                      \
	({                               \
		__typeof__(p) _taken = (p); \
		(p) = NULL;              \
		_taken;                  \
	})
#define TAKE_FD(fd)            \
	({                     \
		int _taken = (fd); \
		(fd) = -1;     \
		_taken;        \
	})

static inline void sb_freep(void *p)
{
	free(*(void **)p);
}

static inline void sb_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define _cleanup_free_ SB_CLEANUP(sb_freep)
#define _cleanup_close_ SB_CLEANUP(sb_closep)

/* len bytes of a file from off on, or all up to its end: how many that are, or a negative errno. */
static inline ssize_t sb_pread(int fd, void *ret, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)ret + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static inline uint64_t sb_now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* CLOCK_MONOTONIC in ns: the only clock anything is ordered by. */
static inline uint64_t sb_monotonic_ns(void)
{
	return sb_now_ns(CLOCK_MONOTONIC);
}

/* Since 1970: for names and for people. */
static inline uint64_t sb_realtime_ms(void)
{
	return sb_now_ns(CLOCK_REALTIME) / NSEC_PER_MSEC;
}

/* Finaliser of MurmurHash3 (public domain, Austin Appleby): spreads integer keys. */
static inline uint64_t sb_mix64(uint64_t h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ (h >> 33);
}

/* FNV-1a over bytes, finished by sb_mix64(). Not for hostile keys in unbounded tables. */
static inline uint64_t sb_hash_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ULL;
	return sb_mix64(h);
}

#endif
