// SPDX-License-Identifier: BSD-2-Clause
/* Writer and reader: what goes in comes out; what is cut, flipped or made up does no harm. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <zstd.h>

#include <cmocka.h>

#include "format/reader.h"
#include "format/writer.h"
#include "tests/unit/one_file.h"

struct buffer {
	uint8_t data[1 << 20];
	size_t len;
};
static struct buffer whole;

static int to_buffer(void *ctx, const void *buf, size_t len)
{
	struct buffer *b = ctx;

	assert_true(b->len + len <= sizeof(b->data));
	memcpy(b->data + b->len, buf, len);
	b->len += len;
	return 0;
}

#define EVENTS 300

static void write_bundle(struct buffer *out)
{
	struct bundle_writer *w;
	struct bundle_header h = { .producer = "test", .hostname = "host", .sample_period_ns = 10101010,
				   .trigger = { "t", "manual", "manual", "", "why", 5000000, 1, 2, 3 } };
	uint64_t kaddr[] = { 0xffffffff81000010ULL, 0xffffffff81000020ULL }, uaddr[] = { 0x401234 };
	struct bundle_stack ks = { kaddr, 2, 0, BUNDLE_UNWIND_KERNEL }, us = { uaddr, 1, 1, BUNDLE_UNWIND_FP };
	struct bundle_mapping map = { 0x400000, 0x10000, 0x2000, 1 };
	struct bundle_process p = { .pid = 42, .comm = "proc", .maps = &map, .n_maps = 1 };
	struct bundle_thread t = { 43, 1, "thread", 0 };
	struct bundle_symbol sym = { 0x3234, 0x3000, "user_function", "" };
	struct bundle_loss loss = { BUNDLE_LOSS_DROPPED, BUNDLE_OFF_CPU, 2, 99, "records", "because" };
	struct bundle_footer footer = { .closed_ns = 7 };

	out->len = 0;
	assert_int_equal(bundle_writer_new(to_buffer, out, 3, &w), 0);
	assert_int_equal(bundle_writer_header(w, &h), 0);
	assert_int_equal(bundle_writer_binary(w, "/bin/x", "abc", 3, 0), 1);
	assert_int_equal(bundle_writer_process(w, &p), 1);
	assert_int_equal(bundle_writer_thread(w, &t), 1);
	assert_int_equal(bundle_writer_thread(w, &t), 1);
	assert_int_equal(bundle_writer_stack(w, 11, &ks), 1);
	assert_int_equal(bundle_writer_stack(w, 12, &us), 2);
	assert_int_equal(bundle_writer_find_stack(w, 12), 2);
	for (uint64_t i = 0; i < EVENTS; i++) {
		struct bundle_event e = { .kind = i % 3 ? BUNDLE_OFF_CPU : BUNDLE_RECLAIM, .cpu = i % 2,
					  .ts_ns = 1000000 + i * 1000, .thread = 1, .kstack = 1,
					  .ustack = 2, .duration_ns = i * 1000, .state = 2,
					  .nr_reclaimed = i % 3 ? 0 : i, .flags = BUNDLE_EV_KTHREAD };

		assert_int_equal(bundle_writer_event(w, &e), 0);
		if (i % 50 == 49)
			assert_int_equal(bundle_writer_flush(w), 0);
	}
	assert_int_equal(bundle_writer_symbols(w, 1, "symtab", &sym, 1), 0);
	assert_int_equal(bundle_writer_losses(w, 1, &loss, 1), 0);
	assert_int_equal(bundle_writer_finish(w, &footer), 0);
	bundle_writer_free(w);
}

static int open_bytes(const void *data, size_t len, struct bundle **ret, struct bundle_error *err)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
	return bundle_open(path, ret, err);
}

struct sums {
	uint64_t n, duration, reclaimed;
};

static int add(const struct bundle_event *e, void *ctx)
{
	struct sums *s = ctx;

	s->n++;
	s->duration += e->duration_ns;
	s->reclaimed += e->nr_reclaimed;
	return 0;
}

static void test_round_trip(void **state)
{
	struct bundle *b;
	struct sums s = {};
	const struct bundle_loss *l;
	const char *module;
	uint64_t offset;

	(void)state;
	assert_int_equal(open_bytes(whole.data, whole.len, &b, NULL), 0);
	assert_string_equal(bundle_header(b)->hostname, "host");
	assert_string_equal(bundle_header(b)->trigger.detail, "why");
	assert_true(bundle_header(b)->trigger.fired_ns == 5000000);
	assert_int_equal(bundle_n_events(b, BUNDLE_OFF_CPU) + bundle_n_events(b, BUNDLE_RECLAIM), EVENTS);
	assert_int_equal(bundle_each_event(b, add, &s), 0);
	assert_int_equal(s.n, EVENTS);
	assert_int_equal(s.duration, 1000ULL * (EVENTS - 1) * EVENTS / 2);
	assert_int_equal(s.reclaimed, 3ULL * 99 * 100 / 2);
	assert_string_equal(bundle_thread(b, 1)->comm, "thread");
	assert_int_equal(bundle_process(b, 1)->pid, 42);
	assert_int_equal(bundle_stack(b, 1)->n, 2);
	assert_true(bundle_stack(b, 1)->addr[1] == 0xffffffff81000020ULL);
	assert_string_equal(bundle_symbolize(b, 1, 0x401234, &module, &offset), "user_function");
	assert_int_equal(offset, 0x234);
	assert_null(bundle_symbolize(b, 1, 0x401235, &module, &offset));
	assert_string_equal(module, "/bin/x");
	assert_int_equal(bundle_losses(b, &l), 1);
	assert_int_equal(l[0].count, 99);
	assert_int_equal(bundle_footer(b)->events, EVENTS);
	assert_true(bundle_damage(b)->complete);
	/* Ids out of range give empty entries, never a crash. */
	assert_string_equal(bundle_thread(b, 1000000)->comm, "");
	assert_int_equal(bundle_stack(b, 1000000)->n, 0);
	bundle_close(b);
}

/* A prefix gives a multiple of the 50 events that each flush made whole. */
static void test_every_cut(void **state)
{
	(void)state;
	for (size_t len = 0; len < whole.len; len++) {
		struct bundle_error err = {};
		struct bundle *b = NULL;
		struct sums s = {};

		if (open_bytes(whole.data, len, &b, &err) < 0) {
			assert_true(err.what[0]);
			continue;
		}
		assert_false(bundle_damage(b)->complete && len < whole.len);
		bundle_each_event(b, add, &s);
		assert_int_equal(s.n % 50, 0);
		bundle_close(b);
	}
}

/* Does `whole` still decompress to what was written? */
static uint8_t original[1 << 20], decoded[1 << 20];
static size_t original_len;

static bool same_contents(void)
{
	size_t n = ZSTD_decompress(decoded, sizeof(decoded), whole.data, whole.len);

	return n == original_len && !memcmp(decoded, original, n);
}

static void test_every_bit(void **state)
{
	(void)state;
	for (size_t bit = 0; bit < whole.len * 8; bit += 3) {
		struct bundle_error err = {};
		struct bundle *b = NULL;
		const struct bundle_damage *d;

		whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (open_bytes(whole.data, whole.len, &b, &err) < 0) {
			assert_true(err.what[0]);
		} else {
			d = bundle_damage(b);
			/* Some bits of a zstd frame pad it and mean nothing. */
			if (!(d->bad_frames || d->skipped_bytes || d->missing_chunks || !d->complete) &&
			    !same_contents())
				fail_msg("bit %zu: the damage is not seen", bit);
		}
		bundle_close(b);
		whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static size_t pack_as(void *to, size_t cap, const void *from, size_t len, int checksum)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t n;

	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, checksum);
	n = ZSTD_compress2(c, to, cap, from, len);
	ZSTD_freeCCtx(c);
	assert_false(ZSTD_isError(n));
	return n;
}

/* One frame as a bundle has it: with a checksum. */
static size_t pack(void *to, size_t cap, const void *from, size_t len)
{
	return pack_as(to, cap, from, len, 1);
}

static void refuse(const void *data, size_t len, const char *what)
{
	struct bundle_error err = {};
	struct bundle *b = NULL;
	int r = open_bytes(data, len, &b, &err);

	if (r != -EBADMSG)
		fail_msg("%s: got %d", what, r);
	assert_true(err.what[0]);
	bundle_close(b);
}

static void test_foreign(void **state)
{
	static uint8_t big[4 << 20], packed[1 << 20];
	size_t n;

	(void)state;
	refuse("", 0, "empty");
	refuse("hello, this is no bundle at all", 31, "text");
	refuse("\x1f\x8b\x08\0\0\0\0\0", 8, "gzip");
	n = pack(packed, sizeof(packed), big, sizeof(big)); /* a bomb: 4 MiB of zeroes */
	refuse(packed, n, "more plain bytes than a frame may hold");
	n = pack(packed, sizeof(packed), "foreign contents", 16);
	refuse(packed, n, "zstd of something else");
	for (size_t i = 0; i < 200000; i += 2) /* a hundred thousand empty chunks */
		memcpy(big + i, "\x0a\x00", 2);
	n = pack(packed, sizeof(packed), big, 200000);
	{
		struct bundle *b = NULL;

		open_bytes(packed, n, &b, NULL);
		bundle_close(b);
	}
}

/* The same contents, with a checksum and without: a frame that cannot be checked is none. */
static void test_no_checksum(void **state)
{
	static uint8_t packed[1 << 20];
	struct bundle *b = NULL;
	size_t n = pack(packed, sizeof(packed), original, original_len);

	(void)state;
	assert_int_equal(open_bytes(packed, n, &b, NULL), 0);
	assert_true(bundle_damage(b)->complete);
	bundle_close(b);
	n = pack_as(packed, sizeof(packed), original, original_len, 0);
	refuse(packed, n, "a frame without a checksum");
}

static void test_newer_major(void **state)
{
	/* Capture.chunk { header { format_major: 9 } } */
	static const uint8_t plain[] = { 0x0a, 0x04, 0x12, 0x02, 0x08, 0x09 };
	uint8_t packed[64];
	struct bundle_error err = {};
	struct bundle *b = NULL;
	size_t n = pack(packed, sizeof(packed), plain, sizeof(plain));

	(void)state;
	assert_int_equal(open_bytes(packed, n, &b, &err), -EPROTO);
	assert_non_null(strstr(err.what, "version 9"));
}

/* ---- bundles of other hands: FORMAT.md, sections 1, 2, 4.1, 7 and 8 ---------------------------- */

struct plain {
	uint8_t data[1 << 16];
	size_t len;
};

static void put_varint(struct plain *p, uint64_t v)
{
	for (; v > 127; v >>= 7)
		p->data[p->len++] = (uint8_t)(v | 0x80);
	p->data[p->len++] = (uint8_t)v;
}

static void put_number(struct plain *p, uint32_t field, uint64_t v)
{
	put_varint(p, (uint64_t)field << 3);
	put_varint(p, v);
}

static void put_bytes(struct plain *p, uint32_t field, const void *data, size_t len)
{
	put_varint(p, (uint64_t)field << 3 | 2);
	put_varint(p, len);
	memcpy(p->data + p->len, data, len);
	p->len += len;
}

/* Capture.chunk { seq, body } as the whole plain text of a frame. */
static size_t chunk_frame(uint8_t *to, size_t cap, uint32_t seq, uint32_t body, const struct plain *what)
{
	struct plain chunk = {}, frame = {};

	put_number(&chunk, 1, seq);
	put_bytes(&chunk, body, what->data, what->len);
	put_bytes(&frame, 1, chunk.data, chunk.len);
	return pack(to, cap, frame.data, frame.len);
}

/* The bundle of write_bundle() with one more chunk, opened. */
static struct bundle *with_chunk(uint32_t body, const struct plain *what)
{
	static uint8_t file[1 << 20];
	struct bundle *b = NULL;

	memcpy(file, whole.data, whole.len);
	open_bytes(file, whole.len, &b, NULL);
	assert_non_null(b);
	{
		uint32_t seq = bundle_footer(b)->chunks + 1;

		bundle_close(b);
		assert_int_equal(open_bytes(file, whole.len + chunk_frame(file + whole.len, sizeof(file) - whole.len,
									  seq, body, what), &b, NULL), 0);
	}
	return b;
}

static void assert_undamaged(struct bundle *b)
{
	const struct bundle_damage *d = bundle_damage(b);

	assert_true(d->complete);
	assert_int_equal(d->bad_frames + d->skipped_bytes + d->missing_chunks + d->bad_references, 0);
}

/* Packed again from a pipe: no content size. With 3 MiB of a newer minor's fields behind it. */
static void test_packed_again(void **state)
{
	static uint8_t plain[4 << 20], packed[1 << 20];
	size_t n = original_len;
	ZSTD_CStream *z = ZSTD_createCStream();
	ZSTD_inBuffer in = { plain, 0, 0 };
	ZSTD_outBuffer out = { packed, sizeof(packed), 0 };
	struct bundle *b = NULL;

	(void)state;
	memcpy(plain, original, n);
	memcpy(plain + n, "\x7a\x80\x80\xc0\x01", 5); /* field 15, 3 MiB */
	in.size = n + 5 + (3 << 20);
	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
	while (in.pos < in.size)
		ZSTD_compressStream(z, &out, &in);
	assert_int_equal(ZSTD_endStream(z, &out), 0);
	ZSTD_freeCStream(z);
	assert_true(ZSTD_getFrameContentSize(packed, out.pos) == ZSTD_CONTENTSIZE_UNKNOWN);
	assert_int_equal(open_bytes(packed, out.pos, &b, NULL), 0);
	assert_undamaged(b);
	assert_int_equal(bundle_n_events(b, BUNDLE_OFF_CPU) + bundle_n_events(b, BUNDLE_RECLAIM), EVENTS);
	bundle_close(b);
}

static void test_skippable(void **state)
{
	static const uint8_t skip[] = "\x5a\x2a\x4d\x18\x08\0\0\0whatever";
	static uint8_t file[1 << 20];
	struct bundle *b = NULL;
	size_t n = sizeof(skip) - 1;

	(void)state;
	memcpy(file, skip, n);
	memcpy(file + n, whole.data, whole.len);
	memcpy(file + n + whole.len, skip, n);
	assert_int_equal(open_bytes(file, whole.len + 2 * n, &b, NULL), 0);
	assert_undamaged(b);
	bundle_close(b);
	assert_int_equal(open_bytes(file, whole.len + 2 * n - 1, &b, NULL), 0);
	assert_true(bundle_damage(b)->skipped_bytes > 0);
	bundle_close(b);
}

static void test_hole_of_ids(void **state)
{
	static const uint32_t body[] = { 3, 6, 7, 14 }; /* strings, threads, stacks, cgroups */
	struct bundle *b;

	(void)state;
	for (size_t i = 0; i < sizeof(body) / sizeof(body[0]); i++) {
		/* Of a few ids that there are, to more than 1048576 beyond them. */
		for (uint32_t first = 1u << 20; first <= (1u << 20) + 1000; first += 1000) {
			struct plain t = {};

			put_number(&t, 1, first);
			put_bytes(&t, 2, "\x01", 1);
			if (body[i] == 7)
				put_bytes(&t, 3, "\x02", 1);
			b = with_chunk(body[i], &t);
			assert_int_equal(bundle_damage(b)->bad_references, first > 1u << 20);
			bundle_close(b);
		}
	}
}

/* An id at a time, as far as the next: tables grow with the file. */
static void test_tables_are_bounded(void **state)
{
	static uint8_t file[1 << 20];
	struct bundle *b = NULL;
	size_t n = whole.len;

	(void)state;
	memcpy(file, whole.data, n);
	for (uint32_t i = 1; i < 60; i++) {
		struct plain t = {};

		put_number(&t, 1, i << 20);
		put_bytes(&t, 2, "\x01", 1);
		put_bytes(&t, 3, "\x02", 1);
		n += chunk_frame(file + n, sizeof(file) - n, 1000 + i, 7, &t);
	}
	assert_int_equal(open_bytes(file, n, &b, NULL), 0);
	assert_true(bundle_damage(b)->bad_references > 0);
	assert_in_range(bundle_n_stacks(b), 1u << 20, 8u << 20);
	bundle_close(b);
}

static int count_rows(const struct bundle_event *e, void *ctx)
{
	uint64_t *n = ctx;

	if (e->cpu == 77) {
		n[0]++;
		n[1] += e->duration_ns;
		n[2] += e->flags;
		n[3] = e->ts_ns;
	}
	return 0;
}

/* EventBlock of capture.proto: kind, cpu, base_ns, ts_delta, duration, flags. */
static void put_block(struct plain *p, uint32_t kind, uint32_t cpu, size_t n_ts, size_t n_duration, size_t n_flags)
{
	put_number(p, 2, kind);
	put_number(p, 1, cpu);
	put_number(p, 3, 123);
	if (n_ts)
		put_bytes(p, 5, "\x02\x02\x02\x02", n_ts); /* zigzag: 1 each */
	if (n_duration)
		put_bytes(p, 9, "\x05\x05\x05\x05", n_duration);
	if (n_flags)
		put_bytes(p, 12, "\x01\x01\x01\x01", n_flags);
}

static void test_columns(void **state)
{
	static const struct {
		uint32_t kind, cpu;
		size_t n_ts, n_duration, n_flags;
		uint64_t rows, duration, flags, last, bad;
	} cases[] = {
		{ BUNDLE_OFF_CPU, 77, 3, 3, 0, 3, 15, 0, 126, 0 },
		{ BUNDLE_OFF_CPU, 77, 0, 3, 0, 3, 15, 0, 123, 0 }, /* no times: all at base_ns */
		{ BUNDLE_OFF_CPU, 77, 3, 2, 3, 3, 0, 3, 126, 1 },  /* a wrong length is an absent column */
		{ 99, 77, 3, 3, 3, 0, 0, 0, 0, 0 },		   /* a kind of a newer minor */
		{ UINT32_MAX, 77, 3, 3, 3, 0, 0, 0, 0, 0 },	   /* and one that is less than none */
		{ 1U << 31, 77, 3, 3, 3, 0, 0, 0, 0, 0 },
		{ BUNDLE_OFF_CPU, 65536, 3, 3, 3, 0, 0, 0, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t n[4] = {};
		struct plain p = {};
		struct bundle *b;

		put_block(&p, cases[i].kind, cases[i].cpu, cases[i].n_ts, cases[i].n_duration, cases[i].n_flags);
		b = with_chunk(8, &p);
		assert_int_equal(bundle_each_event(b, count_rows, n), 0);
		assert_int_equal(n[0], cases[i].rows);
		assert_int_equal(n[1], cases[i].duration);
		assert_int_equal(n[2], cases[i].flags);
		assert_int_equal(n[3], cases[i].last);
		assert_int_equal(bundle_damage(b)->bad_references, cases[i].bad);
		bundle_close(b);
	}
}

static void test_first_header_counts(void **state)
{
	struct plain h = {};
	struct bundle *b;

	(void)state;
	put_number(&h, 1, 1);
	put_bytes(&h, 5, "other", 5);
	b = with_chunk(2, &h);
	assert_string_equal(bundle_header(b)->hostname, "host");
	bundle_close(b);
}

/* A whole bundle, and behind it the same bytes again and again. text: NUL-terminated, zeros follow it. */
static void skips_rest(uint8_t *file, size_t size, const char *text, size_t every)
{
	struct bundle *b = NULL;
	size_t n = whole.len;

	memset(file, 0, size);
	memcpy(file, whole.data, n);
	for (; n + every <= size; n += every)
		memcpy(file + n, text, strlen(text));
	assert_int_equal(open_bytes(file, n, &b, NULL), 0);
	assert_int_equal(bundle_damage(b)->skipped_bytes, n - whole.len);
	bundle_close(b);
}

/* A small file that would be worked on for hours: each place looks like a frame. */
static void test_work_is_bounded(void **state)
{
	static uint8_t file[24 << 20];
	struct bundle *b = NULL;
	size_t n = whole.len, frame;

	(void)state;
	skips_rest(file, sizeof(file), "\x28\xb5\x2f\xfd", 4);
	/* A header that holds, then empty blocks without end. */
	skips_rest(file, sizeof(file), "\x28\xb5\x2f\xfd\x04", 64);
	/* 4 MiB by 32 blocks that repeat one byte, and a checksum that is not theirs: after 1 GiB of them
	 * nobody looks for the whole frame at the end. */
	n = whole.len;
	for (size_t i = 0; i < 300; i++) {
		memcpy(file + n, "\x28\xb5\x2f\xfd\x04\x58", 6);
		n += 6;
		for (size_t k = 0; k < 32; k++, n += 4)
			memcpy(file + n, k == 31 ? "\x03\x00\x10x" : "\x02\x00\x10x", 4);
		memcpy(file + n, "none", 4);
		n += 4;
	}
	n += pack(file + n, sizeof(file) - n, "\x0a\x02\x08\x63", 4);
	assert_int_equal(open_bytes(file, n, &b, NULL), 0);
	assert_int_equal(bundle_damage(b)->skipped_bytes, n - whole.len);
	bundle_close(b);
	/* Each frame whole: a megabyte of what is passed over. */
	{
		static uint8_t zeroes[1 << 20], packed[4096];

		memcpy(zeroes, "\x7a\xfc\xff\x3f", 4); /* field 15, 1 MiB - 4 */
		frame = pack(packed, sizeof(packed), zeroes, sizeof(zeroes));
		n = whole.len;
		for (size_t i = 0; i < 3000; i++, n += frame)
			memcpy(file + n, packed, frame);
	}
	assert_int_equal(open_bytes(file, n, &b, NULL), 0);
	assert_in_range(bundle_damage(b)->frames, 100, 300);
	assert_true(bundle_damage(b)->skipped_bytes > 2000 * frame);
	bundle_close(b);
}

static int set_up(void **state)
{
	if (make_path(state) < 0)
		return -1;
	write_bundle(&whole);
	original_len = ZSTD_decompress(original, sizeof(original), whole.data, whole.len);
	return ZSTD_isError(original_len) ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_no_checksum),
		cmocka_unit_test(test_newer_major),
		cmocka_unit_test(test_packed_again),
		cmocka_unit_test(test_skippable),
		cmocka_unit_test(test_hole_of_ids),
		cmocka_unit_test(test_tables_are_bounded),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_first_header_counts),
		cmocka_unit_test(test_work_is_bounded),
	};

	return cmocka_run_group_tests(tests, set_up, remove_path);
}
