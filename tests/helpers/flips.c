// SPDX-License-Identifier: BSD-2-Clause
/*
 * A bundle with one thing wrong in it, again and again:
 *
 *   flips BUNDLE bits|cuts|plain [split] [views] [from=N] [step=N]
 *
 * bits: one bit of the file is another. cuts: the file ends there. plain: one bit of what is in the frames is another,
 * and the checksum is right; each chunk has a frame of its own then, as with split. Each goes through the reader; with
 * views through every subcommand, too, in this process: a signal, 20 s of CPU time or 256 MiB end it.
 *
 * Whatever is in frames that were not touched must be read. One line of what was done, or of what is wrong: 0 or 1.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "tests/helpers/frame.h"
#include "tests/helpers/views.h"

#define FILE_MAX (4u << 20)
#define PIECES_MAX 4096
#define HANG_S 20 /* of CPU time: how long somebody else had the CPU says nothing of the reader */
#define RSS_MAX_KIB (256L << 10)

enum how { BITS, CUTS, PLAIN };

/* A frame of the whole file. */
struct piece {
	size_t at, len, plain_at, plain_len;
	uint64_t events;
};

static struct {
	uint8_t *file, *plain;
	size_t len, plain_len;
	struct piece piece[PIECES_MAX];
	size_t n;
	int fd;
	char path[64];
	long rss_kib;
} w;

static char doing[160];

static void on_signal(int sig)
{
	dprintf(STDOUT_FILENO, "%s: %s\n", doing, sig == SIGPROF ? "no end" : strsignal(sig));
	_exit(1);
}

static void fail(const char *what)
{
	printf("%s: %s\n", doing, what);
	exit(1);
}

static void need(bool holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "error: %s\n", what);
		exit(2);
	}
}

/* ---- the file as it was ---------------------------------------------------------------------------- */

static size_t chunk_len(const uint8_t *p, const uint8_t *end)
{
	uint64_t n = 0;
	size_t at = 1; /* its tag */

	for (unsigned int shift = 0; p + at < end; shift += 7) {
		n |= (uint64_t)(p[at] & 127) << shift;
		if (p[at++] < 128)
			return at + n;
	}
	return 0;
}

static size_t pack(void *to, size_t size, const void *plain, size_t len)
{
	size_t n = frame_pack(to, size, plain, len);

	need(!ZSTD_isError(n), "a chunk could not be packed");
	return n;
}

/* As many bytes as the file has, whatever it had before. */
static void set_file(const void *bytes, size_t len)
{
	need(ftruncate(w.fd, 0) == 0 && pwrite(w.fd, bytes, len, 0) == (ssize_t)len, "no memory for a file");
}

static uint64_t events_of(const struct bundle *b)
{
	uint64_t n = 0;

	for (int k = BUNDLE_KIND_NONE + 1; k < BUNDLE_KIND_COUNT; k++)
		n += bundle_n_events(b, (enum bundle_kind)k);
	return n;
}

static void load(const char *path)
{
	FILE *f = fopen(path, "re");

	w.file = malloc(FILE_MAX);
	w.plain = malloc(FILE_MAX);
	need(f && w.file && w.plain, "the bundle cannot be opened");
	w.len = fread(w.file, 1, FILE_MAX, f);
	fclose(f);
	for (size_t at = 0; at < w.len;) {
		struct piece *p = &w.piece[w.n++];

		need(w.n < PIECES_MAX, "too many frames");
		*p = (struct piece){ .at = at, .plain_at = w.plain_len };
		p->len = ZSTD_findFrameCompressedSize(w.file + at, w.len - at);
		need(!ZSTD_isError(p->len), "the bundle is not whole");
		p->plain_len = ZSTD_decompress(w.plain + w.plain_len, FILE_MAX - w.plain_len, w.file + at, p->len);
		need(!ZSTD_isError(p->plain_len), "a frame does not unpack");
		w.plain_len += p->plain_len;
		at += p->len;
	}
}

/* A frame for each chunk. */
static void split(void)
{
	w.n = w.len = 0;
	for (size_t at = 0; at < w.plain_len;) {
		struct piece *p = &w.piece[w.n++];

		need(w.n < PIECES_MAX, "too many chunks");
		*p = (struct piece){ .at = w.len, .plain_at = at, .plain_len = chunk_len(w.plain + at, w.plain + w.plain_len) };
		need(p->plain_len > 1 && p->plain_len <= w.plain_len - at, "the bundle's chunks are not whole");
		p->len = pack(w.file + w.len, FILE_MAX - w.len, w.plain + at, p->plain_len);
		at += p->plain_len;
		w.len += p->len;
	}
}

/* How many events each frame has, by what each of the whole prefixes has. */
static void count_events(void)
{
	uint64_t before = 0;

	for (size_t i = 0; i < w.n; i++) {
		struct bundle *b = NULL;

		set_file(w.file, w.piece[i].at + w.piece[i].len);
		need(bundle_open(w.path, &b, NULL) == 0, "the bundle cannot be read");
		w.piece[i].events = events_of(b) - before;
		before += w.piece[i].events;
		bundle_close(b);
	}
}

/* ---- with one thing wrong ---------------------------------------------------------------------------- */

static int count(const struct bundle_event *e, void *ctx)
{
	(void)e;
	++*(uint64_t *)ctx;
	return 0;
}

/* What must be there although piece k is not; n pieces were whole. */
static void check(size_t n, size_t k, bool may_be_newer)
{
	uint64_t events = 0, frames = 0, seen = 0;
	struct bundle *b = NULL;
	int r;

	for (size_t i = 0; i < n; i++) {
		events += i == k ? 0 : w.piece[i].events;
		frames += i != k;
	}
	r = bundle_open(w.path, &b, NULL);
	if (r < 0) {
		if (!(r == -EBADMSG && !frames) && !(r == -EPROTO && may_be_newer))
			fail(strerror(-r));
		return;
	}
	if (bundle_damage(b)->frames < frames)
		fail("whole frames were not read");
	if (events_of(b) < events)
		fail("events of whole chunks were not read");
	bundle_each_event(b, count, &seen);
	if (seen != events_of(b))
		fail("not as many events as were counted");
	bundle_close(b);
}

static void check_memory(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	w.rss_kib = u.ru_maxrss;
	if (w.rss_kib > RSS_MAX_KIB)
		fail("more than 256 MiB");
}

static void run_views(void)
{
	size_t at = strlen(doing);

	for (size_t i = 0; i < SB_ARRAY_SIZE(views); i++) {
		int r;

		snprintf(doing + at, sizeof(doing) - at, ", %s %s", views[i].word[0], views[i].word[1]);
		r = view_run(&views[i], w.path);
		if (r < SB_EXIT_OK || r > SB_EXIT_NOT_FOUND)
			fail("no exit code of ours");
	}
	doing[at] = '\0';
}

static size_t piece_at(size_t at, bool plain)
{
	size_t k = 0;

	while (k + 1 < w.n && (plain ? w.piece[k + 1].plain_at : w.piece[k + 1].at) <= at)
		k++;
	return k;
}

static void try_bit(size_t i)
{
	size_t at = i / 8;
	uint8_t byte = w.file[at] ^ (uint8_t)(1u << i % 8);

	need(pwrite(w.fd, &byte, 1, (off_t)at) == 1, "no memory for a file");
	check(w.n, piece_at(at, false), false);
}

static void try_cut(size_t i)
{
	size_t n = 0;

	while (n < w.n && w.piece[n].at + w.piece[n].len <= i)
		n++;
	set_file(w.file, i);
	check(n, SIZE_MAX, false);
}

static void try_plain(size_t i)
{
	static uint8_t bytes[FILE_MAX];
	size_t at = i / 8, k = piece_at(at, true), n;
	const struct piece *p = &w.piece[k];

	w.plain[at] ^= (uint8_t)(1u << i % 8);
	memcpy(bytes, w.file, p->at);
	n = p->at + pack(bytes + p->at, sizeof(bytes) - p->at, w.plain + p->plain_at, p->plain_len);
	memcpy(bytes + n, w.file + p->at + p->len, w.len - p->at - p->len);
	set_file(bytes, n + w.len - p->at - p->len);
	w.plain[at] ^= (uint8_t)(1u << i % 8);
	check(w.n, k, k == 0);
}

static const struct {
	const char *word, *what;
	void (*try)(size_t i);
} ways[] = {
	[BITS] = { "bits", "bit", try_bit },
	[CUTS] = { "cuts", "cut at byte", try_cut },
	[PLAIN] = { "plain", "bit of the plain text", try_plain },
};

static size_t places(enum how how)
{
	return how == BITS ? 8 * w.len : how == CUTS ? w.len : 8 * w.plain_len;
}

/* How many there were. */
static size_t try_all(enum how how, size_t from, size_t step, bool with_views)
{
	size_t n = 0;

	set_file(w.file, w.len);
	for (size_t i = from; i < places(how); i += step, n++) {
		snprintf(doing, sizeof(doing), "%s %zu", ways[how].what, i);
		setitimer(ITIMER_PROF, &(struct itimerval){ .it_value.tv_sec = HANG_S }, NULL);
		ways[how].try(i);
		if (with_views)
			run_views();
		check_memory();
		if (how == BITS)
			need(pwrite(w.fd, w.file + i / 8, 1, (off_t)(i / 8)) == 1, "no memory for a file");
	}
	return n;
}

int main(int argc, char **argv)
{
	bool splits = false, with_views = false;
	size_t from = 0, step = 1, n;
	enum how how;

	need(argc >= 3, "expected BUNDLE bits|cuts|plain [split] [views] [from=N] [step=N]");
	for (how = BITS; how < PLAIN && strcmp(argv[2], ways[how].word); how++)
		;
	need(!strcmp(argv[2], ways[how].word), "expected bits, cuts or plain");
	for (int i = 3; i < argc; i++) {
		splits |= !strcmp(argv[i], "split");
		with_views |= !strcmp(argv[i], "views");
		sscanf(argv[i], "from=%zu", &from);
		sscanf(argv[i], "step=%zu", &step);
	}
	need(step > 0, "a step of 0 leads nowhere");
	w.fd = memfd_create("bundle", MFD_CLOEXEC);
	snprintf(w.path, sizeof(w.path), "/proc/self/fd/%d", w.fd);
	load(argv[1]);
	if (splits || how == PLAIN)
		split();
	count_events();
	for (size_t i = 0; i < 4; i++)
		signal((const int[]){ SIGPROF, SIGSEGV, SIGBUS, SIGABRT }[i], on_signal);
	setvbuf(stdout, NULL, _IOLBF, 0);
	n = try_all(how, from, step, with_views);
	printf("%zu of %zu %s in %zu frames, most memory %ld MiB\n", n, places(how), ways[how].word, w.n, w.rss_kib >> 10);
	return 0;
}
