// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/server.h"

#include <ctype.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>

#include "format/log.h"

#define STACK_BYTES (512u << 10)
#define HEADER_BYTES (16u << 10) /* of a request: its line and all headers */
#define ENDING 32u /* connections that have been ended and whose threads have not noticed yet */

/* ---- what is asked for ---------------------------------------------------------------- */

#define CAPTURES_PATH "/api/v1/captures"

static const struct {
	const char *path;
	enum stats_route route;
	unsigned int scope; /* enum tokens_scope */
	bool post, storage; /* storage: may hang on a disk */
	enum MHD_Result (*answer)(struct exchange *e);
} routes[] = {
	{ "/-/healthy", ROUTE_HEALTHY, TOKENS_NONE, false, false, answer_healthy },
	{ "/-/ready", ROUTE_READY, TOKENS_NONE, false, false, answer_ready },
	{ "/metrics", ROUTE_METRICS, TOKENS_READ, false, false, answer_metrics },
	{ "/", ROUTE_PAGE, TOKENS_READ, false, true, answer_page },
	{ CAPTURES_PATH, ROUTE_LIST, TOKENS_READ, false, true, answer_list },
	{ NULL, ROUTE_CAPTURE, TOKENS_READ, false, true, answer_capture },
	{ NULL, ROUTE_HTML, TOKENS_READ, false, true, answer_html },
	{ "/api/v1/freeze", ROUTE_FREEZE, TOKENS_FREEZE, true, false, answer_freeze },
	{ "/api/v1/webhook/alertmanager", ROUTE_WEBHOOK, TOKENS_FREEZE, true, false, answer_webhook },
};

/* CAPTURES_PATH/NAME and CAPTURES_PATH/NAME/html. */
static enum stats_route route_of_capture(const char *url, char ret_name[BUNDLE_FILE_MAX])
{
	size_t n;

	if (strncmp(url, CAPTURES_PATH "/", strlen(CAPTURES_PATH "/")))
		return ROUTE_NONE;
	url += strlen(CAPTURES_PATH "/");
	n = strcspn(url, "/");
	if (n >= BUNDLE_FILE_MAX)
		return ROUTE_NONE;
	memcpy(ret_name, url, n);
	ret_name[n] = '\0';
	if (!bundle_is_file_name(ret_name))
		return ROUTE_NONE;
	return !url[n] ? ROUTE_CAPTURE : !strcmp(url + n, "/html") ? ROUTE_HTML : ROUTE_NONE;
}

static size_t find_route(const char *url, char ret_name[BUNDLE_FILE_MAX])
{
	enum stats_route wanted = route_of_capture(url, ret_name);
	size_t i;

	for (i = 0; i < SB_ARRAY_SIZE(routes); i++) {
		if (routes[i].path ? !strcmp(routes[i].path, url) : routes[i].route == wanted)
			break;
	}
	return i;
}

/* ---- may it be asked ------------------------------------------------------------------- */

/* The only headers that decide anything, each once. */
struct headers {
	unsigned int host, length, encoding, authorization;
	const char *host_value, *length_value, *authorization_value;
};

static enum MHD_Result take_header(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct headers *h = ctx;

	(void)kind;
	if (!strcasecmp(key, "Host")) {
		h->host++;
		h->host_value = value ? value : "";
	} else if (!strcasecmp(key, "Content-Length")) {
		h->length++;
		h->length_value = value ? value : "";
	} else if (!strcasecmp(key, "Transfer-Encoding")) {
		h->encoding++;
	} else if (!strcasecmp(key, "Authorization")) {
		h->authorization++;
		h->authorization_value = value ? value : "";
	}
	return MHD_YES;
}

static bool is_allowed_host(const struct server *s, const char *host)
{
	const struct config_list *allowed = &s->config->server.allowed_hosts;

	if (request_is_address(host) || !strcmp(host, "localhost") || !strcasecmp(host, s->hostname))
		return true;
	for (size_t i = 0; i < allowed->n; i++) {
		char name[REQUEST_HOST_MAX]; /* without its port */

		if (request_host(allowed->item[i], name) == 0 && !strcmp(name, host))
			return true;
	}
	return false;
}

/* A page of elsewhere whose name is made to point here is asked for under that name (DNS rebinding). */
static enum MHD_Result check_host(struct exchange *e, const struct headers *h, bool *ret_ok)
{
	char host[REQUEST_HOST_MAX];

	if (h->host != 1 || request_host(h->host_value, host) < 0)
		return server_refuse(e, MHD_HTTP_BAD_REQUEST, "expected one Host header with a host name or address");
	if (!is_allowed_host(e->s, host))
		return server_refuse(e, MHD_HTTP_MISDIRECTED_REQUEST, "this is not '%s'; AllowedHosts= names what it may be "
				     "called besides its address and host name", host);
	*ret_ok = true;
	return MHD_YES;
}

/* What two programs on the way could read in two ways is refused. */
static enum MHD_Result check_body(struct exchange *e, const struct headers *h, bool post, bool *ret_ok)
{
	if (h->length > 1 || (h->length && h->encoding) || h->encoding > 1)
		return server_refuse(e, MHD_HTTP_BAD_REQUEST, "more than one length of the body");
	if (h->encoding)
		return server_refuse(e, MHD_HTTP_LENGTH_REQUIRED, "expected Content-Length, no Transfer-Encoding");
	if (!post && h->length && strtoull(h->length_value, NULL, 10))
		return server_refuse(e, MHD_HTTP_BAD_REQUEST, "expected no body");
	if (post && !h->length)
		return server_refuse(e, MHD_HTTP_LENGTH_REQUIRED, "expected Content-Length");
	if (post && strtoull(h->length_value, NULL, 10) > WEBHOOK_MAX_BYTES)
		return server_refuse(e, MHD_HTTP_CONTENT_TOO_LARGE, "expected at most %u bytes", WEBHOOK_MAX_BYTES);
	*ret_ok = true;
	return MHD_YES;
}

/* A browser sends a password by itself wherever a page of elsewhere makes it: good enough to read, which that page
 * then cannot see, and for nothing else. */
static unsigned int scopes_of(const struct exchange *e, const struct headers *h)
{
	char *password = NULL, *user;
	unsigned int scopes = 0;

	if (h->authorization != 1)
		return 0;
	if (!strncasecmp(h->authorization_value, "Bearer ", 7))
		return tokens_scopes(&e->s->tokens, h->authorization_value + 7 + strspn(h->authorization_value + 7, " "));
	user = e->get ? MHD_basic_auth_get_username_password(e->connection, &password) : NULL;
	if (password)
		scopes = tokens_scopes(&e->s->tokens, password) & TOKENS_READ;
	MHD_free(user);
	MHD_free(password);
	return scopes;
}

/* From this machine alone metrics are asked for without a token, and more where the configuration says so. Everything else
 * tells what other users run, and where the kernel is: /proc would not (hidepid, kptr_restrict). */
static bool needs_token(const struct exchange *e, unsigned int scope)
{
	if (!scope)
		return false;
	if (!e->s->local || scope != TOKENS_READ)
		return true;
	return e->route != ROUTE_METRICS && e->s->config->server.anonymous != CONFIG_ANONYMOUS_READ;
}

static enum MHD_Result check_token(struct exchange *e, const struct headers *h, unsigned int scope, bool *ret_ok)
{
	const char *name = scope == TOKENS_READ ? "read" : "freeze";
	unsigned int scopes;

	*ret_ok = !needs_token(e, scope);
	if (*ret_ok)
		return MHD_YES;
	if (!(e->s->tokens.scopes & scope) && e->route == ROUTE_PAGE)
		return answer_page_without_token(e);
	if (!(e->s->tokens.scopes & scope))
		return server_refuse(e, MHD_HTTP_FORBIDDEN, "no token has the scope %s: make one with '(umask 077; openssl rand "
				     "-hex 32 >PATH)' and set TokenFile=%s:PATH", name, name);
	scopes = scopes_of(e, h);
	*ret_ok = scopes & scope;
	if (*ret_ok)
		return MHD_YES;
	if (scopes)
		return server_refuse(e, MHD_HTTP_FORBIDDEN, "this token has not the scope %s", name);
	return server_refuse(e, MHD_HTTP_UNAUTHORIZED, "expected a token with the scope %s: 'Authorization: Bearer TOKEN'",
			     name);
}

/* Some connections are kept for those that ask for no file, so that metrics tell of a disk that hangs. */
static bool enter_storage(struct exchange *e)
{
	uint64_t max = e->s->config->server.max_connections, most = SB_MAX(max - max / 8, 1ULL);

	e->in_storage = true;
	return stats_add(e->s->in_storage, 1) < most;
}

/* *ret_ok: go on; else the answer is queued. Order: what concerns the message, then who asks, then for what. */
static enum MHD_Result check(struct exchange *e, size_t route, const char *method, const char *version, bool *ret_ok)
{
	struct headers h = {};
	enum MHD_Result r;
	bool post = !strcmp(method, "POST"), ok = false;

	e->ends = true; /* whatever else may follow on this connection */
	/* The version follows the URL in the request's line: in between is what a NUL byte hides. */
	if (version != e->place->uri_end + 1)
		return server_refuse(e, MHD_HTTP_BAD_REQUEST, "expected METHOD URL VERSION, without a NUL byte");
	MHD_get_connection_values(e->connection, MHD_HEADER_KIND, take_header, &h);
	r = check_host(e, &h, &ok);
	if (!ok)
		return r;
	ok = false;
	r = check_body(e, &h, post, &ok);
	if (!ok)
		return r;
	if (route == SB_ARRAY_SIZE(routes))
		return server_refuse(e, MHD_HTTP_NOT_FOUND, "no such page");
	/* A line may end with LF alone (RFC 9112, 2.2): what is a header to somebody before us may be the next request here. So
	 * only downloads are followed by another, and those have a token each. */
	e->ends = post || !routes[route].storage;
	if (!e->get && !post)
		e->ends = true;
	if (routes[route].post != post || (!post && !e->get))
		return server_refuse(e, MHD_HTTP_METHOD_NOT_ALLOWED, "expected %s", routes[route].post ? "POST" : "GET or HEAD");
	r = check_token(e, &h, routes[route].scope, &ok);
	if (!ok)
		return r;
	if (routes[route].storage && !enter_storage(e))
		return server_refuse(e, MHD_HTTP_SERVICE_UNAVAILABLE, "too many downloads");
	*ret_ok = true;
	return MHD_YES;
}

/* ---- libmicrohttpd's side --------------------------------------------------------------- */

static struct exchange *begin(struct server *s, struct MHD_Connection *connection, const char *url, const char *method,
			      size_t *ret_route)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct exchange *e = info && info->socket_context ? calloc(1, sizeof(*e)) : NULL;

	if (!e)
		return NULL; /* the connection is closed */
	e->s = s;
	e->connection = connection;
	e->place = info->socket_context;
	e->head = !strcmp(method, "HEAD");
	e->get = e->head || !strcmp(method, "GET");
	*ret_route = find_route(url, e->name);
	e->route = *ret_route < SB_ARRAY_SIZE(routes) ? routes[*ret_route].route : ROUTE_NONE;
	return e;
}

static bool take_body(struct exchange *e, const char *data, size_t len)
{
	char *more = len <= WEBHOOK_MAX_BYTES - e->len ? realloc(e->body, e->len + len) : NULL;

	if (!more)
		return false;
	e->body = more;
	memcpy(e->body + e->len, data, len);
	e->len += len;
	return true;
}

static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection, const char *url, const char *method,
			      const char *version, const char *data, size_t *len, void **con_cls)
{
	struct exchange *e = *con_cls;
	enum MHD_Result r;
	size_t route;
	bool ok = false;

	if (!e) {
		e = *con_cls = begin(ctx, connection, url, method, &route);
		if (!e)
			return MHD_NO;
		r = check(e, route, method, version, &ok);
		return ok ? MHD_YES : r;
	}
	if (*len) {
		if (!take_body(e, data, *len))
			return MHD_NO;
		*len = 0;
		return MHD_YES;
	}
	connections_suspend(&e->s->connections, e->place);
	for (route = 0; routes[route].route != e->route; route++)
		;
	return routes[route].answer(e);
}

static void completed(void *ctx, struct MHD_Connection *connection, void **con_cls, enum MHD_RequestTerminationCode code)
{
	struct exchange *e = *con_cls;

	(void)ctx;
	(void)connection;
	(void)code;
	if (!e)
		return;
	if (e->in_storage)
		stats_add(e->s->in_storage, -1);
	connections_await(&e->s->connections, e->place);
	free(e->body);
	free(e);
	*con_cls = NULL;
}

static void *note_uri(void *ctx, const char *uri, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct connection *place = info ? info->socket_context : NULL;

	(void)ctx;
	if (place)
		place->uri_end = uri + strlen(uri);
	return NULL;
}

static void connected(void *ctx, struct MHD_Connection *connection, void **place, enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct server *s = ctx;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		*place = info ? connections_add(&s->connections, info->connect_fd) : NULL;
	else if (*place)
		connections_remove(&s->connections, TAKE_PTR(*place));
}

/* No name that we serve has a '%': nothing is taken for what it is not, %00 and %2f least of all. */
static size_t keep_escapes(void *ctx, struct MHD_Connection *connection, char *text)
{
	(void)ctx;
	(void)connection;
	return strlen(text);
}

static void __attribute__((format(printf, 2, 0))) say(void *ctx, const char *fmt, va_list ap)
{
	char text[256];

	(void)ctx;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	log_debug("%s", text); /* anybody can cause these: they are counted, and said when asked for */
}

/* ---- start -------------------------------------------------------------------------------- */

struct tls {
	char certificate[1 << 17], key[1 << 16];
};

/* libmicrohttpd would only say that it cannot start. */
static int check_tls(const struct tls *tls, const struct config_server *c)
{
	gnutls_certificate_credentials_t cred;
	gnutls_datum_t certificate = { (unsigned char *)tls->certificate, (unsigned int)strlen(tls->certificate) };
	gnutls_datum_t key = { (unsigned char *)tls->key, (unsigned int)strlen(tls->key) };
	int r;

	if (gnutls_certificate_allocate_credentials(&cred) < 0)
		return -ENOMEM;
	r = gnutls_certificate_set_x509_key_mem(cred, &certificate, &key, GNUTLS_X509_FMT_PEM);
	gnutls_certificate_free_credentials(cred);
	if (r == 0)
		return 0;
	log_err("cannot use the certificate '%s' with the key '%s': %s", c->tls_certificate, c->tls_key, gnutls_strerror(r));
	log_hint("expected the certificate and its chain, and its private key, each as PEM");
	return -EINVAL;
}

static int load_tls(struct tls *tls, const struct config_server *c)
{
	char error[512];
	FILE *f = fopen(c->tls_certificate, "re");
	size_t n;

	if (!f)
		return log_errno(-errno, "cannot read TlsCertificate='%s'", c->tls_certificate);
	n = fread(tls->certificate, 1, sizeof(tls->certificate) - 1, f);
	tls->certificate[n] = '\0';
	fclose(f);
	if (tokens_read_secret(c->tls_key, tls->key, sizeof(tls->key), error, sizeof(error)) < 0) {
		log_err_and_hint(error);
		return -EINVAL;
	}
	return check_tls(tls, c);
}

static struct MHD_Daemon *start_daemon(struct server *s, const struct tls *tls, int listen_fd)
{
	unsigned int flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC |
			     MHD_USE_ERROR_LOG | (tls ? MHD_USE_TLS : 0);
	const struct config_server *c = &s->config->server;
	unsigned int max = (unsigned int)c->max_connections, limit = (unsigned int)connections_limit(max) + ENDING;
	struct MHD_OptionItem https[] = {
		{ MHD_OPTION_HTTPS_MEM_CERT, 0, tls ? (void *)tls->certificate : NULL },
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, tls ? (void *)tls->key : NULL },
		{ MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)"SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" },
		{ MHD_OPTION_END, 0, NULL },
	};

	return MHD_start_daemon(flags, 0, NULL, NULL, handle, s,
				MHD_OPTION_EXTERNAL_LOGGER, say, NULL, /* first, or what precedes it is not ours */
				MHD_OPTION_LISTEN_SOCKET, listen_fd,
				MHD_OPTION_CONNECTION_LIMIT, limit,
				MHD_OPTION_PER_IP_CONNECTION_LIMIT, s->local ? limit : SB_MIN(max, SB_MAX(max / 8, 4u)),
				MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)(c->connection_timeout_ns / NSEC_PER_SEC),
				MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_BYTES,
				MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
				MHD_OPTION_STRICT_FOR_CLIENT, 1,
				MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
				MHD_OPTION_URI_LOG_CALLBACK, note_uri, NULL,
				MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
				MHD_OPTION_NOTIFY_CONNECTION, connected, s,
				MHD_OPTION_ARRAY, tls ? https : &https[3], MHD_OPTION_END);
}

/* Is the socket reachable for others than this machine? Then it must be for those with a token alone, unheard. */
static int check_exposure(struct server *s, int listen_fd)
{
	const struct config_server *c = &s->config->server;
	struct sockaddr_storage addr = {};
	socklen_t len = sizeof(addr);

	if (getsockname(listen_fd, (struct sockaddr *)&addr, &len) < 0)
		return log_errno(-errno, "cannot tell where the socket listens"), SB_EXIT_FAILURE;
	s->local = request_is_local(&addr);
	if (!s->local && !*c->tls_certificate) {
		log_err("refusing to serve others than this machine without TLS");
		log_hint("set TlsCertificate= and TlsKey=, or listen on 127.0.0.1");
		return SB_EXIT_CONFIG;
	}
	if (!s->local && !s->tokens.n) {
		log_err("refusing to serve others than this machine without a token");
		log_hint("set TokenFile=read:PATH, or listen on 127.0.0.1");
		return SB_EXIT_CONFIG;
	}
	if (!s->local && c->anonymous == CONFIG_ANONYMOUS_READ) {
		log_err("refusing Anonymous=read on an address that others than this machine can reach");
		log_hint("take it away, or listen on 127.0.0.1");
		return SB_EXIT_CONFIG;
	}
	if (c->anonymous == CONFIG_ANONYMOUS_READ)
		log_warn("Anonymous=read: every local user may read bundles, with the command lines of all");
	else if (!(s->tokens.scopes & TOKENS_READ))
		log_warn("without TokenFile=read:PATH nobody can read bundles over HTTP");
	return SB_EXIT_OK;
}

int server_start(struct server *s, const struct config *config, const char *renderer, int listen_fd)
{
	_cleanup_free_ struct tls *tls = NULL;
	char error[512];
	int r;

	memset(s, 0, sizeof(*s));
	s->config = config;
	gethostname(s->hostname, sizeof(s->hostname) - 1);
	pthread_mutex_init(&s->lock, NULL);
	r = tokens_load(&s->tokens, &config->server.token_files, error, sizeof(error));
	if (r < 0) {
		log_err_and_hint(error);
		return SB_EXIT_CONFIG;
	}
	r = check_exposure(s, listen_fd);
	if (r)
		return r;
	if (!*config->server.tls_certificate != !*config->server.tls_key) {
		log_err("TlsCertificate= and TlsKey= need each other");
		return SB_EXIT_CONFIG;
	}
	if (*config->server.tls_certificate) {
		tls = calloc(1, sizeof(*tls));
		if (!tls || load_tls(tls, &config->server) < 0)
			return SB_EXIT_CONFIG;
	}
	captures_init(&s->captures, &config->storage);
	agent_client_init(&s->agent, config->recorder.socket);
	render_init(&s->render, renderer);
	r = survey_start(&s->captures, &s->survey);
	if (r == 0)
		r = connections_start(&s->connections, config->server.max_connections, config->server.connection_timeout_ns,
				      &s->stats);
	if (r < 0)
		return log_errno(r, "cannot start a thread"), SB_EXIT_FAILURE;
	s->daemon = start_daemon(s, tls, listen_fd);
	if (tls)
		explicit_bzero(tls, sizeof(*tls)); /* libmicrohttpd has read it */
	if (!s->daemon) {
		log_err("cannot start the server%s", tls ? ": TLS may not be possible with this certificate" : "");
		return SB_EXIT_FAILURE;
	}
	return SB_EXIT_OK;
}

void server_stop(struct server *s)
{
	if (s->daemon)
		MHD_stop_daemon(s->daemon);
}
