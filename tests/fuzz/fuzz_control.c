// SPDX-License-Identifier: BSD-2-Clause
/* Bytes on the control socket, in pieces as they may come: whatever they are, a line is a line of at most CONTROL_LINE
 * bytes without a NUL, and what is deleted has a name without a path. The first byte says where the pieces end. */
#include <sys/socket.h>

#include "format/file_name.h"
#include "recorder/control.h"
#include "tests/fuzz/target.h"

static void check_line(const struct control_client *c)
{
	enum control_verb verb;
	const char *arg = NULL;

	if (strlen(c->line) >= CONTROL_LINE || strchr(c->line, '\n'))
		abort();
	verb = control_parse(c->line, &arg);
	if (!arg || control_needs(verb) == CONTROL_NOBODY || (verb == CONTROL_UNKNOWN && *arg))
		abort();
	if (verb == CONTROL_DELETE && bundle_is_file_name(arg) && (strchr(arg, '/') || arg[0] == '.'))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_client c = {};
	size_t piece = size ? (size_t)data[0] % 64 + 1 : 1;
	int fd[2], r = 0;

	if (!size || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
		return 0;
	c.fd = fd[0];
	for (size_t at = 1; at < size && r == 0; at += piece) {
		if (send(fd[1], data + at, SB_MIN(piece, size - at), MSG_NOSIGNAL) < 0)
			break;
		r = control_read(&c);
		if (c.len >= sizeof(c.line))
			abort();
	}
	if (r == 1)
		check_line(&c);
	control_answer(&c, "ok\n");
	close(fd[1]);
	return 0;
}
