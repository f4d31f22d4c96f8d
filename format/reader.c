// SPDX-License-Identifier: BSD-2-Clause
/* Opening a bundle, walking through its events, recovering a damaged one. */
#include "format/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "format/columns.h"
#include "format/reader_impl.h"

/* ---- events ------------------------------------------------------------------------------------------ */

#define CPUS_MAX 65536

/* Where there are no times, all is at base_ns. */
static size_t rows_of(const Stallbox__V1__EventBlock *m)
{
	size_t n = m->n_ts_delta;

	if (n)
		return n;
#define COLUMN(field, member) n = SB_MAX(n, m->n_##field);
	COLUMNS32(COLUMN) COLUMNS64(COLUMN) COLUMNS_TIME(COLUMN)
#undef COLUMN
	return n;
}

/* Columns of a wrong length read as absent; they are counted. */
static uint64_t bad_columns(const Stallbox__V1__EventBlock *m)
{
	size_t n = rows_of(m);
	uint64_t bad = 0;

#define COLUMN(field, member) bad += m->n_##field && m->n_##field != n;
	COLUMNS32(COLUMN) COLUMNS64(COLUMN) COLUMNS_TIME(COLUMN)
#undef COLUMN
	return bad;
}

/* Kinds of a newer minor version are passed over. */
static bool kind_known(const Stallbox__V1__EventBlock *m)
{
	return m->kind > 0 && (unsigned int)m->kind < BUNDLE_KIND_COUNT; /* any 32 bits may be in the file */
}

static uint32_t valid_id(uint32_t id, uint32_t n, uint64_t *bad)
{
	if (id <= n)
		return id;
	++*bad;
	return 0;
}

static int each_in_block(struct bundle *b, const Stallbox__V1__EventBlock *m, bundle_event_fn fn,
			 void *ctx, uint64_t *bad)
{
	uint64_t unit = m->time_unit_ns ? m->time_unit_ns : 1, ts = m->base_ns;
	size_t rows = rows_of(m);

	for (size_t i = 0; i < rows; i++) {
		struct bundle_event e;
		int r;

		if (m->n_ts_delta)
			ts += (uint64_t)m->ts_delta[i] * unit;
		e = (struct bundle_event){
			.kind = (enum bundle_kind)m->kind,
			.cpu = m->cpu,
			.ts_ns = ts,
#define COLUMN(field, member) .member = m->n_##field == rows ? m->field[i] : 0,
			COLUMNS32(COLUMN) COLUMNS64(COLUMN)
#undef COLUMN
#define COLUMN(field, member) .member = m->n_##field == rows ? m->field[i] * unit : 0,
			COLUMNS_TIME(COLUMN)
#undef COLUMN
		};
		e.thread = valid_id(e.thread, b->n_threads, bad);
		e.peer = valid_id(e.peer, b->n_threads, bad);
		e.kstack = valid_id(e.kstack, b->n_stacks, bad);
		e.ustack = valid_id(e.ustack, b->n_stacks, bad);
		if (e.kind == BUNDLE_ON_CPU && !e.duration_ns)
			e.duration_ns = b->header.sample_period_ns;
		r = fn(&e, ctx);
		if (r)
			return r;
	}
	return 0;
}

static int count_event(const struct bundle_event *e, void *ctx)
{
	struct bundle *b = ctx;

	b->n_events[e->kind]++;
	if (!b->first_ns || e->ts_ns < b->first_ns)
		b->first_ns = e->ts_ns;
	if (e->ts_ns > b->last_ns)
		b->last_ns = e->ts_ns;
	return 0;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static int take_chunk(struct bundle *b, const Stallbox__V1__Chunk *c, void *ctx)
{
	(void)ctx;
	if (c->seq > b->next_seq)
		b->damage.missing_chunks += c->seq - b->next_seq;
	b->next_seq = c->seq + 1;
	if (c->body_case != STALLBOX__V1__CHUNK__BODY_EVENTS)
		return reader_take(b, c);
	if (!kind_known(c->events))
		return 0;
	b->damage.bad_references += bad_columns(c->events) + (c->events->cpu >= CPUS_MAX);
	if (c->events->cpu < CPUS_MAX)
		each_in_block(b, c->events, count_event, b, &b->damage.bad_references);
	return 0;
}

static int set_error(struct bundle_error *err, uint64_t offset, int r, const char *what,
		     const char *hint)
{
	if (err) {
		*err = (struct bundle_error){ .offset = offset };
		snprintf(err->what, sizeof(err->what), "%s", what);
		snprintf(err->hint, sizeof(err->hint), "%s", hint);
	}
	return r;
}

#define STDIN_MAX (16ULL << 30)

/* Standard input cannot be read twice: it goes to an unlinked temporary file. */
static int spool_stdin(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096], buf[65536];
	uint64_t size = 0;
	ssize_t n;
	int fd;

	n = snprintf(path, sizeof(path), "%s/stallbox-stdin.XXXXXX", dir && dir[0] ? dir : "/tmp");
	if (n >= (ssize_t)sizeof(path))
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0)
		return -errno;
	unlink(path);
	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0) {
		for (ssize_t done = 0; done < n;) {
			ssize_t k = write(fd, buf + done, (size_t)(n - done));

			if (k < 0) {
				int r = -errno;

				close(fd);
				return r;
			}
			done += k;
		}
		size += (uint64_t)n;
		if (size > STDIN_MAX) {
			close(fd);
			return -EFBIG;
		}
	}
	return fd;
}

static int open_raw(const char *path, struct bundle **ret, struct bundle_error *err)
{
	struct bundle *b = calloc(1, sizeof(*b));
	struct stat st;

	if (!b)
		return -ENOMEM;
	b->fd = !strcmp(path, "-") ? spool_stdin() : open(path, O_RDONLY | O_CLOEXEC);
	if (b->fd < 0) {
		int r = !strcmp(path, "-") ? b->fd : -errno;

		free(b);
		return set_error(err, 0, r, strerror(-r), "");
	}
	if (fstat(b->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(b->fd);
		free(b);
		return set_error(err, 0, -EINVAL, "not a regular file",
				 "name a .stall.pb.zst file, or - for standard input");
	}
	b->size = (uint64_t)st.st_size;
	/* No larger than the file: of a small one, reading behind its end is reading behind the buffer's. */
	b->packed = malloc((size_t)SB_MAX(SB_MIN(b->size, (uint64_t)(2 * FRAME_PACKED_MAX)), (uint64_t)1));
	b->plain = malloc(FRAME_PLAIN_MAX);
	b->zstd = ZSTD_createDCtx();
	b->chunk.max = CHUNK_DECODE_MAX;
	b->tables.max = reader_tables_max(b->size);
	b->alloc = (ProtobufCAllocator){ arena_alloc, arena_free_one, &b->chunk };
	if (!b->packed || !b->plain || !b->zstd) {
		bundle_close(b);
		return -ENOMEM;
	}
	*ret = b;
	return 0;
}

/* What a pass over the chunks that ended with r says about the file. */
static int judge(const struct bundle *b, int r, struct bundle_error *err)
{
	char text[160];

	if (!b->size)
		return set_error(err, 0, -EBADMSG, "the file is empty",
				 "expected a stallbox bundle; was the disk full when it was written?");
	if (r == -EPROTO) {
		snprintf(text, sizeof(text), "format version %u, this program reads version %u",
			 b->seen_major, BUNDLE_FORMAT_MAJOR);
		return set_error(err, 0, r, text, "use a newer stallbox");
	}
	if (r < 0)
		return set_error(err, 0, r, strerror(-r), "");
	if (!b->damage.frames) {
		snprintf(text, sizeof(text), "not a stallbox bundle: no whole zstd frame in it (%s)",
			 b->damage.first_what);
		return set_error(err, b->damage.first_offset, -EBADMSG, text,
				 "expected a file written by stallboxd (.stall.pb.zst)");
	}
	if (!b->next_seq && !b->have_header)
		return set_error(err, 0, -EBADMSG, "not a stallbox bundle: zstd data of another format",
				 "expected a file written by stallboxd (.stall.pb.zst)");
	return 0;
}

int bundle_open(const char *path, struct bundle **ret, struct bundle_error *err)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	int r = open_raw(path, &b, err);

	if (r < 0)
		return r;
	r = judge(b, reader_each_chunk(b, true, take_chunk, NULL), err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(b);
	return 0;
}

static int take_one(struct bundle *b, const Stallbox__V1__Chunk *c, void *ctx)
{
	int r = take_chunk(b, c, ctx);

	return r ? r : 1;
}

int bundle_probe(const char *path, struct bundle_error *err)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	int r = open_raw(path, &b, err);

	return r < 0 ? r : judge(b, reader_each_chunk(b, true, take_one, NULL), err);
}

void bundle_close(struct bundle *b)
{
	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	free(b->packed);
	free(b->plain);
	ZSTD_freeDCtx(b->zstd);
	arena_reset(&b->chunk);
	arena_reset(&b->tables);
	free(b->strings);
	free(b->threads);
	free(b->processes);
	free(b->stacks);
	free(b->cgroups);
	free(b->binaries);
	free(b->losses);
	free(b->marks);
	free(b->series);
	free(b->shot);
	map64_done(&b->symbols);
	map64_done(&b->lines);
	free(b);
}

struct event_pass {
	bundle_event_fn fn;
	void *ctx;
};

static int give_events(struct bundle *b, const Stallbox__V1__Chunk *c, void *ctx)
{
	const struct event_pass *pass = ctx;
	uint64_t ignored = 0;

	if (c->body_case != STALLBOX__V1__CHUNK__BODY_EVENTS || !kind_known(c->events) ||
	    c->events->cpu >= CPUS_MAX)
		return 0;
	return each_in_block(b, c->events, pass->fn, pass->ctx, &ignored);
}

int bundle_each_event(struct bundle *b, bundle_event_fn fn, void *ctx)
{
	struct event_pass pass = { fn, ctx };

	return reader_each_chunk(b, false, give_events, &pass);
}

/* ---- recovery ---------------------------------------------------------------------------------------------- */

static int copy_frame(struct bundle *b, const uint8_t *plain, size_t len, uint64_t offset, void *ctx)
{
	(void)plain;
	(void)len;
	(void)offset;
	return fwrite(b->frame, 1, b->frame_len, ctx) == b->frame_len ? 0 : -errno;
}

int bundle_recover(const char *in, FILE *out, struct bundle_damage *ret_damage, struct bundle_error *err)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	int r = open_raw(in, &b, err);

	if (r < 0)
		return r;
	r = reader_each_frame(b, true, copy_frame, out);
	*ret_damage = b->damage;
	if (r < 0)
		return set_error(err, 0, r, strerror(-r), "");
	if (!b->damage.frames)
		return set_error(err, b->damage.first_offset, -EBADMSG, "no whole frame to recover", "");
	return fflush(out) ? set_error(err, 0, -errno, strerror(errno), "") : 0;
}
