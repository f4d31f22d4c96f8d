// SPDX-License-Identifier: BSD-2-Clause
#include "upload/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>

#include "format/log.h"
#include "format/uploaded.h"
#include "upload/key.h"
#include "upload/pyroscope.h"

static uint64_t chance(void)
{
	uint64_t v = 0;

	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != sizeof(v))
		v = sb_mix64(sb_monotonic_ns());
	return v;
}

void upload_note_failure(struct upload *u, uint64_t counts[DELIVERIES], enum delivery d, const char *what, const char *where,
			 const char *why)
{
	char text[sizeof(u->last_error)];

	if (d == DELIVERY_STOPPED)
		return;
	counts[d]++;
	snprintf(text, sizeof(text), "cannot %s %s: %s: %s", what, where, delivery_name(d), why);
	if (strcmp(text, u->last_error))
		log_err("%s", text);
	else
		log_debug("%s", text);
	strcpy(u->last_error, text);
	u->last_failed_s = sb_realtime_ms() / 1000;
}

/* This item waits, and the destination as a whole where it is what failed. It may fail because of the item all the same:
 * one that is answered with 500 each time lets the others go first (queue_next()). */
static void wait_after(struct upload *u, enum delivery d, struct backoff *destination, struct backoff *item, uint64_t retry_after_s)
{
	uint64_t now = sb_monotonic_ns(), at_least = retry_after_s * NSEC_PER_SEC;

	backoff_failed(item, now, u->config->retry_ns, at_least, chance());
	if (delivery_is_general(d))
		backoff_failed(destination, now, u->config->retry_ns, at_least, chance());
}

/* ---- the store ------------------------------------------------------------------------ */

struct object {
	const struct http_body *body;
	const char *sha256;
	char key[KEY_MAX];
	bool renamed, present;
};

/* DELIVERY_EXISTS: with other content. */
static enum delivery put_or_compare(struct upload *u, struct object *o, struct http_answer *ret)
{
	enum delivery d = s3_put(&u->s3, &u->http, o->key, o->body, o->sha256, ret);

	if (d != DELIVERY_EXISTS)
		return d;
	d = s3_head(&u->s3, &u->http, o->key, ret);
	if (d == DELIVERY_ABSENT)
		return DELIVERY_BUSY; /* deleted in between */
	if (d != DELIVERY_DONE)
		return d;
	o->present = !strcmp(ret->meta_sha256, o->sha256);
	return o->present ? DELIVERY_DONE : DELIVERY_EXISTS;
}

/* Nothing is overwritten: where the key is taken by something else, the hash becomes a part of it. */
static enum delivery put_object(struct upload *u, const char *name, struct object *o, struct http_answer *ret)
{
	enum delivery d;

	if (key_make(u->config->prefix, name, NULL, o->key) < 0)
		return DELIVERY_LOCAL;
	d = put_or_compare(u, o, ret);
	if (d != DELIVERY_EXISTS)
		return d;
	if (key_make(u->config->prefix, name, o->sha256, o->key) < 0)
		return DELIVERY_LOCAL;
	o->renamed = true;
	d = put_or_compare(u, o, ret);
	if (d == DELIVERY_EXISTS)
		snprintf(ret->text, sizeof(ret->text), "an object of this key has another hash");
	return d == DELIVERY_EXISTS ? DELIVERY_MISMATCH : d;
}

static void count_stored(struct upload *u, const struct queue_item *item, const struct object *o)
{
	if (o->present) {
		u->counts.present++;
	} else {
		u->counts.stored++;
		u->counts.bytes += o->body->len;
		u->counts.renamed += o->renamed;
	}
	u->counts.unfinished += !item->whole;
	log_info("%s %s: %s, %llu bytes, sha256 %s", o->present ? "already stored" : "stored", item->name, o->key,
		 (unsigned long long)o->body->len, o->sha256);
}

static bool store(struct upload *u, struct queue_item *item, int fd, uint64_t size)
{
	struct http_body body = { fd, size };
	char sha256[SHA256_TEXT], error[512];
	struct object o = { .body = &body, .sha256 = sha256 };
	struct http_answer answer = {};
	enum delivery d;
	int r;

	if (credentials_read(u->config->credentials_file, &u->s3.credentials, error, sizeof(error)) < 0) {
		upload_note_failure(u, u->counts.failed, DELIVERY_REFUSED, "use the credentials for", u->config->endpoint, error);
		wait_after(u, DELIVERY_REFUSED, &u->store, &item->retry, 0);
		return false;
	}
	r = s3_hash(fd, size, sha256);
	if (r < 0)
		snprintf(answer.text, sizeof(answer.text), "%s", strerror(-r));
	d = r < 0 ? DELIVERY_LOCAL : put_object(u, item->name, &o, &answer);
	explicit_bzero(&u->s3.credentials, sizeof(u->s3.credentials));
	if (d == DELIVERY_DONE) {
		u->store = item->retry = (struct backoff){};
		count_stored(u, item, &o);
		return true;
	}
	upload_note_failure(u, u->counts.failed, d, "store", delivery_is_general(d) ? u->config->endpoint : item->name, answer.text);
	wait_after(u, d, &u->store, &item->retry, answer.retry_after_s);
	return false;
}

/* ---- Pyroscope ------------------------------------------------------------------------- */

static bool push(struct upload *u, struct queue_item *item)
{
	struct http_answer answer;
	enum delivery d = pyroscope_push(&u->http, u->config->pyroscope_url, u->queue.dir[item->dir], item->name, &answer);

	if (d == DELIVERY_DONE) {
		u->pyroscope = (struct backoff){};
		u->counts.pushed++;
		log_info("pushed the profile of %s to %s", item->name, u->config->pyroscope_url);
		return true;
	}
	upload_note_failure(u, u->counts.push_failed, d, "push the profile of", item->name, answer.text);
	if (d != DELIVERY_STOPPED && (!delivery_is_general(d) || pyroscope_too_old(&item->mtime))) {
		u->counts.push_turned_away++;
		return true;
	}
	wait_after(u, d, &u->pyroscope, &item->retry, answer.retry_after_s);
	return false;
}

/* ---- both ------------------------------------------------------------------------------ */

static bool finish(struct upload *u, struct queue_item *item, const struct stat *st)
{
	int r = uploaded_mark(u->queue.fd[item->dir], item->name, st);

	if (r < 0) {
		u->counts.marks_failed++;
		upload_note_failure(u, u->counts.failed, DELIVERY_LOCAL, "mark as uploaded", item->name, strerror(-r));
		backoff_failed(&item->retry, sb_monotonic_ns(), u->config->retry_ns, 0, chance());
		return false;
	}
	u->last_delivered_s = sb_realtime_ms() / 1000;
	u->last_error[0] = '\0'; /* the next failure is a new one */
	queue_remove(&u->queue, item);
	return true;
}

bool upload_deliver(struct upload *u, struct queue_item *item)
{
	_cleanup_close_ int fd = openat(u->queue.fd[item->dir], item->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	uint64_t now = sb_monotonic_ns();
	struct stat st;

	if (fd < 0 && errno == ENOENT) { /* retention was faster, or a person */
		queue_remove(&u->queue, item);
		return false;
	}
	if (fd < 0 || fstat(fd, &st) < 0) {
		upload_note_failure(u, u->counts.failed, DELIVERY_LOCAL, "read", item->name, strerror(errno));
		wait_after(u, DELIVERY_LOCAL, &u->store, &item->retry, 0);
		return false;
	}
	queue_renew(item, &st);
	if (!item->stored && u->store.due_ns <= now)
		item->stored = !u->config->endpoint[0] || store(u, item, fd, (uint64_t)st.st_size);
	if (!item->pushed && u->pyroscope.due_ns <= now && !*u->http.stop)
		item->pushed = !u->config->pyroscope_url[0] || push(u, item);
	return item->stored && item->pushed && finish(u, item, &st);
}
