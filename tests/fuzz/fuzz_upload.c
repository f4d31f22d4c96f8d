// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the uploader reads that others may have written. The first byte says what: n a bundle's name, p a prefix, c the
 * file of credentials, m a mark of what was delivered, a an answer of a store: headers, an empty line, a body.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "format/file_name.h"
#include "format/uploaded.h"
#include "tests/fuzz/target.h"
#include "upload/credentials.h"
#include "upload/http.c"
#include "upload/key.h"

static void read_name(const char *name)
{
	struct key_parts parts;
	char key[KEY_MAX];

	if (key_parse(name, &parts) == 0)
		must(parts.host[0] && strlen(parts.date) == 10, "a name has a host and a day");
	if (bundle_is_file_name(name) && key_make("a/b", name, NULL, key) == 0)
		must(!strncmp(key, "a/b/", 4) && !strstr(key, "/../") && !strpbrk(key, " \n%?#"), "a key goes nowhere else");
}

static void read_prefix(const char *prefix)
{
	static const char name[] = "host-20261120T233350Z-manual.stall.pb.zst";
	char key[KEY_MAX];

	if (key_prefix_ok(prefix) && key_make(prefix, name, NULL, key) == 0)
		must(key[0] != '/' && !strstr(key, "//") && !strstr(key, "/../"), "a key is one");
}

static void read_credentials(const char *path)
{
	char error[300] = "";
	struct credentials c;

	if (credentials_read(path, &c, error, sizeof(error)) == 0)
		must(c.key_id[0] && c.secret[0] && !strpbrk(c.key_id, " \r\n"), "keys are words");
	else
		must(error[0] != '\0', "what is refused has words");
}

/* A directory with a mark in it, for as long as this process is there. */
static char dir[] = "/tmp/stallbox-fuzz.XXXXXX";

static void remove_dir(void)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/" UPLOADED_DIR "/bundle", dir);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	rmdir(dir);
}

/* Only the bytes that were written for it are a mark. */
static void read_mark(const uint8_t *data, size_t size)
{
	const struct stat st = { .st_size = 1234, .st_mtim = { 1700000000, 5 } };
	static int fd = -1, mark = -1;

	if (fd < 0) {
		must(mkdtemp(dir) != NULL, "a directory");
		atexit(remove_dir);
		fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		must(uploaded_mark(fd, "bundle", &st) == 0 && uploaded_is(fd, "bundle", &st), "a mark is one");
		mark = openat(fd, UPLOADED_DIR "/bundle", O_RDWR | O_CLOEXEC);
	}
	must(ftruncate(mark, 0) == 0 && pwrite(mark, data, size, 0) == (ssize_t)size, "a mark's bytes");
	if (uploaded_is(fd, "bundle", &st))
		must(size == 25 && !memcmp(data, "1234 1700000000000000005\n", size), "a mark is of one bundle");
}

/* As libcurl hands it on, line by line and in pieces. */
static void read_answer(char *text, size_t size)
{
	struct http_answer answer = {};
	struct exchange x = { .answer = &answer };
	char code[8], message[160], *end = text + size, *line = text;

	while (line < end && *line != '\n') {
		char *next = memchr(line, '\n', (size_t)(end - line));

		next = next ? next + 1 : end;
		must(take_header(line, 1, (size_t)(next - line), &x) == (size_t)(next - line), "a header is taken");
		line = next;
	}
	for (; line < end; line += SB_MIN(end - line, 100))
		take_body(line, 1, (size_t)SB_MIN(end - line, 100), &x);
	element(answer.body, "<Code>", code, sizeof(code));
	element(answer.body, "<Message>", message, sizeof(message));
	only_printable(message);
	must(strlen(answer.meta_sha256) <= 64, "a hash fits");
	for (int status = 100; status < 600; status++)
		http_judge(status, code);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int fd = -1;
	char path[64];

	if (size < 1 || size > 1 << 17)
		return 0;
	text = text_of(data + 1, size - 1);
	switch (data[0]) {
	case 'n':
		read_name(text);
		break;
	case 'p':
		read_prefix(text);
		break;
	case 'c':
		fd = file_of(data + 1, size - 1);
		must(fchmod(fd, 0600) == 0, "a file of one's own");
		read_credentials(path_of(fd, path));
		break;
	case 'm':
		read_mark(data + 1, size - 1);
		break;
	case 'a':
		read_answer(text, size - 1);
		break;
	}
	return 0;
}
