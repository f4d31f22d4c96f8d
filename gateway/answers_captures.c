// SPDX-License-Identifier: BSD-2-Clause
/* The pages about bundles: the list, each of them, the same as a page, the start page. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "gateway/server.h"

#define TYPE_BUNDLE "application/vnd.stallbox.bundle"

static enum MHD_Result refuse_file(struct exchange *e, int r)
{
	if (r == -ENOENT)
		return server_refuse(e, MHD_HTTP_NOT_FOUND, "no bundle '%s'", e->name);
	return server_refuse(e, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot read the bundle '%s': %s", e->name, strerror(-r));
}

static const char *header(const struct exchange *e, const char *name)
{
	return MHD_lookup_connection_value(e->connection, MHD_HEADER_KIND, name);
}

/* ---- one bundle ----------------------------------------------------------------------- */

/* A part is of this file's bytes, or the client gets all of another one's. Dates do not tell versions of one
 * second apart: as RFC 9110, 13.1.5 has it they are no match. */
static enum request_range wanted_range(const struct exchange *e, const char *etag, uint64_t size, uint64_t *ret_first,
				       uint64_t *ret_len)
{
	const char *condition = header(e, "If-Range");

	if (e->head || (condition && strcmp(condition, etag)))
		return REQUEST_WHOLE; /* ranges are of GET alone */
	return request_range(header(e, "Range"), size, ret_first, ret_len);
}

static void describe_file(const struct exchange *e, struct MHD_Response *r, const char *etag)
{
	char disposition[BUNDLE_FILE_MAX + 40];

	snprintf(disposition, sizeof(disposition), "attachment; filename=\"%s\"", e->name);
	MHD_add_response_header(r, "ETag", etag);
	MHD_add_response_header(r, "Cache-Control", "private, no-cache"); /* kept, and asked for by its ETag */
	MHD_add_response_header(r, "Accept-Ranges", "bytes");
	MHD_add_response_header(r, "Content-Type", TYPE_BUNDLE);
	MHD_add_response_header(r, "Content-Disposition", disposition);
}

static enum MHD_Result send_unsatisfiable(struct exchange *e, const char *etag, uint64_t size)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	char range[48];

	if (!r)
		return MHD_NO;
	snprintf(range, sizeof(range), "bytes */%" PRIu64, size);
	MHD_add_response_header(r, "Content-Range", range);
	MHD_add_response_header(r, "ETag", etag);
	return server_send(e, MHD_HTTP_RANGE_NOT_SATISFIABLE, r, 0);
}

/* fd passes to the response. */
static enum MHD_Result send_part(struct exchange *e, int fd, const char *etag, uint64_t size, uint64_t first, uint64_t len,
				 bool part)
{
	struct MHD_Response *r = MHD_create_response_from_fd_at_offset64(len, fd, first);
	char range[80];

	if (!r) {
		close(fd);
		return MHD_NO;
	}
	describe_file(e, r, etag);
	if (part) {
		snprintf(range, sizeof(range), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first, first + len - 1, size);
		MHD_add_response_header(r, "Content-Range", range);
	}
	stats_add(e->s->stats.sent_bytes, e->head ? 0 : len);
	return server_send(e, part ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, r, e->head ? 0 : len);
}

static enum MHD_Result send_not_modified(struct exchange *e, const char *etag)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

	if (r)
		MHD_add_response_header(r, "ETag", etag);
	return server_send(e, MHD_HTTP_NOT_MODIFIED, r, 0);
}

enum MHD_Result answer_capture(struct exchange *e)
{
	struct capture_file f = { .fd = -1 };
	char hex[CAPTURES_HEX], etag[CAPTURES_HEX + 2];
	int r = captures_open(&e->s->captures, e->name, &f);
	uint64_t size, first = 0, len;
	_cleanup_close_ int fd = f.fd;

	if (r == 0)
		r = captures_sha256(&e->s->captures, &f, hex);
	if (r < 0)
		return refuse_file(e, r);
	snprintf(etag, sizeof(etag), "\"%s\"", hex);
	if (header(e, "If-None-Match") && request_lists_etag(header(e, "If-None-Match"), etag))
		return send_not_modified(e, etag);
	len = size = (uint64_t)f.st.st_size;
	switch (wanted_range(e, etag, size, &first, &len)) {
	case REQUEST_UNSATISFIABLE:
		return send_unsatisfiable(e, etag, size);
	case REQUEST_PART:
		return send_part(e, TAKE_FD(fd), etag, size, first, len, true);
	default:
		return send_part(e, TAKE_FD(fd), etag, size, 0, size, false);
	}
}

/* ---- as a page ------------------------------------------------------------------------ */

/* The page has a policy of its own, which names its script. In a sandbox that script has no origin, and so none of
 * what a browser knows of this one. */
#define PAGE_POLICY "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; " \
		    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

enum MHD_Result answer_html(struct exchange *e)
{
	struct capture_file f = { .fd = -1 };
	int page, r = captures_open(&e->s->captures, e->name, &f);
	struct MHD_Response *response;
	char error[300] = "";
	off_t size;

	if (r < 0)
		return refuse_file(e, r);
	close(f.fd); /* it is there; the program opens it by name */
	r = render_page(&e->s->render, captures_dir(&e->s->captures, f.dir), e->name, &page, error, sizeof(error));
	if (r == -EBUSY)
		return server_refuse(e, MHD_HTTP_SERVICE_UNAVAILABLE, "%s", error);
	if (r < 0)
		return server_refuse(e, MHD_HTTP_INTERNAL_SERVER_ERROR, "no page of '%s': %s", e->name, error);
	size = lseek(page, 0, SEEK_END);
	response = MHD_create_response_from_fd64((uint64_t)size, page);
	if (!response) {
		close(page);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", TYPE_HTML);
	MHD_add_response_header(response, "Content-Security-Policy", PAGE_POLICY);
	return server_send(e, MHD_HTTP_OK, response, (uint64_t)size);
}

/* ---- lists ---------------------------------------------------------------------------- */

/* Writes a list; what it writes needs no escaping, since names are checked. */
typedef void (*list_writer)(FILE *f, struct captures *c, struct capture_list *l);

static enum MHD_Result send_list(struct exchange *e, const char *type, const char *policy, list_writer write)
{
	struct MHD_Response *response;
	struct capture_list list;
	char *text = NULL;
	size_t len;
	FILE *f;
	int r = captures_list(&e->s->captures, &list);

	if (r < 0)
		return server_refuse(e, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot list the bundles: %s", strerror(-r));
	if (list.error && !list.total) {
		r = list.error;
		captures_list_done(&list);
		return server_refuse(e, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot list the bundles: %s", strerror(-r));
	}
	f = open_memstream(&text, &len);
	if (f) {
		write(f, &e->s->captures, &list);
		fclose(f);
	}
	captures_list_done(&list);
	if (!f || !text)
		return MHD_NO;
	response = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Content-Security-Policy", policy);
	return server_send(e, MHD_HTTP_OK, response, len);
}

static void when(const struct stat *st, char ret[32])
{
	struct tm tm;

	strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&st->st_mtim.tv_sec, &tm));
}

static void write_json(FILE *f, struct captures *captures, struct capture_list *l)
{
	captures_complete(captures, l);
	fprintf(f, "{\"total\":%zu,\"shown\":%zu,\"odd_files\":%zu,\"unreadable\":%s,\"captures\":[", l->total, l->n, l->odd,
		l->error ? "true" : "false");
	for (size_t i = 0; i < l->n; i++) {
		const struct capture_item *c = &l->item[i];
		char time[32], trigger[BUNDLE_FILE_MAX], changed[32];

		request_describe(c->name, time, trigger);
		when(&c->st, changed);
		fprintf(f, "%s\n{\"id\":\"%s\",\"time\":\"%s\",\"trigger\":\"%s\",\"size\":%" PRIu64 ",\"changed\":\"%s\",\"sha256\":",
			i ? "," : "", c->name, time, trigger, (uint64_t)c->st.st_size, changed);
		fprintf(f, c->sha256[0] ? "\"%s\"" : "null", c->sha256);
		fprintf(f, ",\"uploaded\":%s}", c->uploaded ? "true" : "false");
	}
	fputs("\n]}\n", f);
}

static const char page_head[] =
	"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width\">\n<title>stallbox: bundles</title>\n<style>\n"
	"body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }\n"
	"table { border-collapse: collapse; width: 100%; }\n"
	"th, td { text-align: left; padding: .3em .8em .3em 0; border-bottom: 1px solid #ccc; }\n"
	"td.n { text-align: right; font-variant-numeric: tabular-nums; }\n</style>\n</head>\n<body>\n<h1>Bundles</h1>\n";
static const char page_without_token[] =
	"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>stallbox: no token</title>\n</head>\n<body>\n"
	"<h1>No token has the scope read</h1>\n"
	"<p>Bundles hold command lines of all users, and kernel addresses: who reads them needs a token. Make one that the "
	"gateway's user can read, and nobody else:</p>\n"
	"<pre>(umask 077; openssl rand -hex 32 &gt;/etc/stallbox/read.token)\n"
	"chown stallbox-gateway /etc/stallbox/read.token</pre>\n"
	"<p>and name it in /etc/stallbox/stallbox.conf:</p>\n"
	"<pre>[Server]\nTokenFile=read:/etc/stallbox/read.token</pre>\n"
	"<p>Start the gateway again, come back, and give the token as the password, with any user name. "
	"<a href=\"/metrics\">/metrics</a> needs none on this machine. More: stallbox-gateway(8), ACCESS.</p>\n</body>\n</html>\n";

static void write_page(FILE *f, struct captures *captures, struct capture_list *l)
{
	(void)captures;
	fputs(page_head, f);
	fprintf(f, "<p>%zu bundles", l->total);
	if (l->n < l->total)
		fprintf(f, ", the %zu newest ones here", l->n);
	if (l->odd)
		fprintf(f, "; %zu files with names or types that no bundle has", l->odd);
	fprintf(f, "%s. <a href=\"/api/v1/captures\">JSON</a>, <a href=\"/metrics\">metrics</a></p>\n",
		l->error ? "; a directory cannot be read" : "");
	fputs("<table>\n<tr><th>Time (UTC)</th><th>Trigger</th><th>KiB</th><th>Bundle</th><th></th></tr>\n", f);
	for (size_t i = 0; i < l->n; i++) {
		const struct capture_item *c = &l->item[i];
		char time[32], trigger[BUNDLE_FILE_MAX];

		request_describe(c->name, time, trigger);
		fprintf(f, "<tr><td>%s</td><td>%s</td><td class=\"n\">%" PRIu64 "</td>", time, trigger,
			((uint64_t)c->st.st_size + 1023) >> 10);
		fprintf(f, "<td><a href=\"/api/v1/captures/%s\">%s</a></td><td><a href=\"/api/v1/captures/%s/html\">page</a></td></tr>\n",
			c->name, c->name, c->name);
	}
	fputs("</table>\n</body>\n</html>\n", f);
}

enum MHD_Result answer_list(struct exchange *e)
{
	return send_list(e, TYPE_JSON, "default-src 'none'; frame-ancestors 'none'", write_json);
}

enum MHD_Result answer_page_without_token(struct exchange *e)
{
	return server_send_text(e, MHD_HTTP_FORBIDDEN, TYPE_HTML, page_without_token);
}

enum MHD_Result answer_page(struct exchange *e)
{
	return send_list(e, TYPE_HTML, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'", write_page);
}
