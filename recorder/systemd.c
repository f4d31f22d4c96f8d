// SPDX-License-Identifier: BSD-2-Clause
#include "recorder/systemd.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "format/log.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* path: of the file system, or "@name" for an abstract one. */
static int send_datagram(const char *path, const char *data, size_t len)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	_cleanup_close_ int fd = -1;
	socklen_t addr_len;

	if ((path[0] != '/' && path[0] != '@') || n >= sizeof(addr.sun_path))
		return -EAFNOSUPPORT;
	memcpy(addr.sun_path, path, n);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&addr, addr_len) < 0)
		return -errno;
	return 1;
}

int systemd_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path ? send_datagram(path, state, strlen(state)) : 0;
}

uint64_t systemd_watchdog_ns(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!usec || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return strtoull(usec, NULL, 10) * NSEC_PER_USEC;
}

int systemd_journal_encode(const struct systemd_field *field, size_t n, char *ret, size_t size)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		size_t name = strlen(field[i].name), value = strlen(field[i].value);
		uint64_t len = htole64(value);
		bool lines = strchr(field[i].value, '\n');

		if (size - at < name + value + 2 + sizeof(len))
			return -EMSGSIZE;
		memcpy(ret + at, field[i].name, name);
		at += name;
		ret[at++] = lines ? '\n' : '=';
		if (lines) {
			memcpy(ret + at, &len, sizeof(len));
			at += sizeof(len);
		}
		memcpy(ret + at, field[i].value, value);
		at += value;
		ret[at++] = '\n';
	}
	return (int)at;
}

int systemd_journal(const struct systemd_field *field, size_t n)
{
	char text[4096];
	int len;

	if (!log_is_journal())
		return 0;
	len = systemd_journal_encode(field, n, text, sizeof(text));
	return len < 0 ? len : send_datagram(JOURNAL_SOCKET, text, (size_t)len);
}
