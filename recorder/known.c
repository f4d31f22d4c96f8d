// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/known.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define MAGIC 0x4e574e4b42535453ULL
#define MAX_BYTES (256u << 20)

/* Sections follow each other in this order, each a multiple of 8 bytes long. */
struct header {
	uint64_t magic;
	uint32_t n_images, n_vmas, n_files, n_ksyms;
	uint64_t text_bytes;
};

struct stored_image {
	uint64_t since_ns, until_ns;
	uint32_t pid, first, n, pad;
};

struct known {
	void *map;
	size_t len;
	const struct header *h;
	const struct stored_image *image;
	const struct mapped_vma *vma;
	const struct known_file *file;
	const struct known_ksym *ksym;
	const char *text;
	uint64_t *by_pid; /* pid << 32 | number of the image, ascending */
};

/* ---- writing ---------------------------------------------------------------------------- */

struct buffer {
	uint8_t *bytes;
	size_t len, cap;
	bool failed;
};

static void put(struct buffer *b, const void *bytes, size_t len)
{
	if (b->failed || b->len + len > MAX_BYTES) {
		b->failed = true;
		return;
	}
	if (b->len + len > b->cap) {
		size_t cap = SB_MAX(b->cap * 2, b->len + len + 65536);
		void *bigger = realloc(b->bytes, cap);

		if (!bigger) {
			b->failed = true;
			return;
		}
		b->bytes = bigger;
		b->cap = cap;
	}
	if (len) /* of nothing there need be no bytes */
		memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

struct images_pass {
	struct buffer images, vmas;
	uint32_t n, n_vmas;
};

static void put_image(const struct image *i, const struct mapped_vma *vma, void *ctx)
{
	struct images_pass *p = ctx;
	struct stored_image s = { i->since_ns, i->until_ns, i->pid, p->n_vmas, i->n, 0 };

	put(&p->images, &s, sizeof(s));
	put(&p->vmas, vma, i->n * sizeof(*vma));
	p->n_vmas += i->n;
	p->n++;
}

static bool snapshot(const struct known_source *source, struct buffer *out)
{
	struct header h = { .magic = MAGIC, .n_ksyms = source->n_ksyms };
	struct buffer files = {}, text = {};
	struct images_pass p = {};
	const char *path;

	source->each_image(source->of, put_image, &p);
	for (uint32_t i = 0; i < source->n_files; i++) {
		struct known_file f = {};

		if (!source->file(source->of, i, &f, &path))
			break;
		f.path = (uint32_t)text.len;
		put(&text, path, strlen(path) + 1);
		put(&files, &f, sizeof(f));
		h.n_files++;
	}
	h.n_images = p.n;
	h.n_vmas = p.n_vmas;
	h.text_bytes = text.len;
	put(out, &h, sizeof(h));
	put(out, p.images.bytes, p.images.len);
	put(out, p.vmas.bytes, p.vmas.len);
	put(out, files.bytes, files.len);
	put(out, source->ksym, source->n_ksyms * sizeof(*source->ksym));
	put(out, text.bytes, text.len);
	out->failed |= p.images.failed || p.vmas.failed || files.failed || text.failed;
	free(p.images.bytes);
	free(p.vmas.bytes);
	free(files.bytes);
	free(text.bytes);
	return !out->failed;
}

/* The asker takes an empty file for no answer. */
static void answer(int memory, const struct known_source *source)
{
	struct buffer out = {};

	if (snapshot(source, &out)) {
		for (size_t done = 0; done < out.len;) {
			ssize_t n = write(memory, out.bytes + done, out.len - done);

			if (n <= 0)
				break;
			done += (size_t)n;
		}
	}
	free(out.bytes);
}

void known_serve(int socket, const struct known_source *source)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int fd[2];

	if (socket < 0 || recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(fd)))
		return;
	memcpy(fd, CMSG_DATA(c), sizeof(fd));
	answer(fd[0], source);
	close(fd[0]);
	close(fd[1]);
}

/* ---- asking ------------------------------------------------------------------------------ */

static int send_request(int socket, int memory, int done)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = {};
	int fd[2] = { memory, done };
	struct iovec iov = { (char[]){ 'k' }, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), fd, sizeof(fd));
	return sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Points into the snapshot what lies in it; false: it does not fit together. */
static bool find_sections(struct known *k)
{
	const uint8_t *p = k->map;
	uint64_t need = sizeof(*k->h);

	if (k->len < need)
		return false;
	k->h = (const void *)p;
	need += (uint64_t)k->h->n_images * sizeof(*k->image) + (uint64_t)k->h->n_vmas * sizeof(*k->vma) +
		(uint64_t)k->h->n_files * sizeof(*k->file) + (uint64_t)k->h->n_ksyms * sizeof(*k->ksym) +
		k->h->text_bytes;
	if (k->h->magic != MAGIC || need != k->len || k->h->text_bytes > k->len)
		return false;
	k->image = (const void *)(p + sizeof(*k->h));
	k->vma = (const void *)(k->image + k->h->n_images);
	k->file = (const void *)(k->vma + k->h->n_vmas);
	k->ksym = (const void *)(k->file + k->h->n_files);
	k->text = (const void *)(k->ksym + k->h->n_ksyms);
	return true;
}

static int compare_words(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* A storm leaves 50,000 images, and every process in the bundle looks for its own. */
static bool sort_by_pid(struct known *k)
{
	k->by_pid = malloc((k->h->n_images + 1) * sizeof(*k->by_pid));
	if (!k->by_pid)
		return false;
	for (uint32_t i = 0; i < k->h->n_images; i++)
		k->by_pid[i] = (uint64_t)k->image[i].pid << 32 | i;
	qsort(k->by_pid, k->h->n_images, sizeof(*k->by_pid), compare_words);
	return true;
}

static int open_snapshot(int memory, struct known **ret)
{
	struct known *k = calloc(1, sizeof(*k));
	struct stat st;

	if (!k)
		return -ENOMEM;
	if (fstat(memory, &st) < 0 || st.st_size <= 0) {
		free(k);
		return -ENODATA;
	}
	k->len = (size_t)st.st_size;
	k->map = mmap(NULL, k->len, PROT_READ, MAP_PRIVATE, memory, 0);
	if (k->map == MAP_FAILED || !find_sections(k)) {
		known_free(k);
		return -EBADMSG;
	}
	if (!sort_by_pid(k)) {
		known_free(k);
		return -ENOMEM;
	}
	*ret = k;
	return 0;
}

int known_ask(int socket, unsigned int timeout_ms, struct known **ret)
{
	_cleanup_close_ int memory = -1, done = -1;
	struct pollfd pfd = { .events = POLLIN };
	int p[2], r;

	if (socket < 0)
		return -ENOENT;
	memory = memfd_create("stallbox-known", MFD_CLOEXEC);
	if (memory < 0 || pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	pfd.fd = done = p[0];
	r = send_request(socket, memory, p[1]);
	close(p[1]);
	if (r < 0)
		return r;
	/* Nothing comes but the end: the other side has closed it, or is gone. */
	r = poll(&pfd, 1, (int)timeout_ms);
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	return open_snapshot(memory, ret);
}

void known_free(struct known *k)
{
	if (!k)
		return;
	if (k->map && k->map != MAP_FAILED)
		munmap(k->map, k->len);
	free(k->by_pid);
	free(k);
}

static bool better(const struct stored_image *i, const struct stored_image *best, uint64_t at_ns, uint64_t until_ns)
{
	if (until_ns ? !i->until_ns || i->until_ns > until_ns : i->since_ns > at_ns)
		return false;
	return !best || i->since_ns >= best->since_ns;
}

bool known_find(const struct known *k, uint32_t pid, uint64_t at_ns, uint64_t until_ns, struct known_image *ret)
{
	const struct stored_image *best = NULL;
	uint32_t lo = 0, hi = k->h->n_images;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (k->by_pid[mid] >> 32 < pid)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < k->h->n_images && k->by_pid[lo] >> 32 == pid; lo++) {
		const struct stored_image *i = &k->image[(uint32_t)k->by_pid[lo]];

		if (better(i, best, at_ns, until_ns))
			best = i;
	}
	if (!best || best->first > k->h->n_vmas || best->n > k->h->n_vmas - best->first)
		return false;
	*ret = (struct known_image){ pid, best->since_ns, best->until_ns, k->vma + best->first, best->n };
	return true;
}

uint32_t known_mapper(const struct known *k, uint32_t file, uint32_t *iter)
{
	for (; *iter < k->h->n_images; ++*iter) {
		const struct stored_image *i = &k->image[*iter];

		if (i->until_ns || i->first > k->h->n_vmas || i->n > k->h->n_vmas - i->first)
			continue;
		for (uint32_t v = 0; v < i->n; v++) {
			if (k->vma[i->first + v].file == file) {
				++*iter;
				return i->pid;
			}
		}
	}
	return 0;
}

const struct known_file *known_file(const struct known *k, uint32_t file)
{
	return file < k->h->n_files && k->file[file].path < k->h->text_bytes ? &k->file[file] : NULL;
}

const char *known_path(const struct known *k, const struct known_file *f)
{
	return k->text + f->path;
}

const struct known_ksym *known_ksym(const struct known *k, uint64_t addr)
{
	const struct known_ksym *best = NULL;

	for (uint32_t i = 0; i < k->h->n_ksyms; i++) {
		const struct known_ksym *s = &k->ksym[i];

		if (addr >= s->start && addr - s->start < s->len && (!best || s->until_ns >= best->until_ns))
			best = s;
	}
	return best;
}
