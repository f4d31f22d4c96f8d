// SPDX-License-Identifier: BSD-2-Clause
#include "gateway/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

#include "format/log.h"

/* Keys of the configuration that have an option here; their types and defaults are in its table. */
static const struct {
	const char *flag;
	enum config_section section;
	const char *key;
} keys[] = {
	{ "listen", CONFIG_SERVER, "Listen" },
	{ "tls-certificate", CONFIG_SERVER, "TlsCertificate" },
	{ "tls-key", CONFIG_SERVER, "TlsKey" },
	{ "token-file", CONFIG_SERVER, "TokenFile" },
	{ "anonymous", CONFIG_SERVER, "Anonymous" },
	{ "allowed-hosts", CONFIG_SERVER, "AllowedHosts" },
	{ "max-connections", CONFIG_SERVER, "MaxConnections" },
	{ "connection-timeout", CONFIG_SERVER, "ConnectionTimeout" },
	{ "spool", CONFIG_STORAGE, "Directory" },
	{ "fallback", CONFIG_STORAGE, "Fallback" },
	{ "socket", CONFIG_RECORDER, "Socket" },
};

enum { OWN_CONFIG = 100, OWN_RENDERER, OWN_VERBOSE, OWN_VERSION, OWN_HELP };

static const struct {
	struct option option;
	const char *left, *help;
} own[] = {
	{ { "config", required_argument, NULL, OWN_CONFIG }, "--config FILE", "configuration (default " CONFIG_FILE ", if it exists)" },
	{ { "renderer", required_argument, NULL, OWN_RENDERER }, "--renderer PROGRAM",
	  "that makes pages of bundles (default stallbox, found by PATH)" },
	{ { "verbose", no_argument, NULL, OWN_VERBOSE }, "--verbose", "say what clients do wrong, too" },
	{ { "version", no_argument, NULL, OWN_VERSION }, "--version", "print the version" },
	{ { "help", no_argument, NULL, OWN_HELP }, "--help", "print this text" },
};

static const struct config_key *key_of(size_t i)
{
	return config_find(keys[i].section, keys[i].key);
}

/* The option, then its text in lines of whole words beside it. */
static void print_wrapped(const char *left, const char *text)
{
	const size_t width = 48;

	while (*text) {
		size_t n = strlen(text), cut = n;

		while (cut > width || (cut < n && cut && text[cut] != ' '))
			cut--;
		if (!cut)
			cut = SB_MIN(n, width);
		printf("  %-28s  %.*s\n", left, (int)cut, text);
		text += cut + (text[cut] == ' ');
		left = "";
	}
}

static void print_help(void)
{
	printf("Usage: stallbox-gateway [OPTIONS]\n"
	       "Serves bundles, metrics and health of stallboxd over HTTP, and takes requests\n"
	       "to freeze.\n\n");
	for (size_t i = 0; i < SB_ARRAY_SIZE(keys); i++) {
		const struct config_key *k = key_of(i);
		char left[64], text[300];

		snprintf(left, sizeof(left), "--%s %s", keys[i].flag, config_metavar(k));
		snprintf(text, sizeof(text), "%s%s%s%s", k->help, *k->preset ? " (default " : "", k->preset,
			 *k->preset ? ")" : "");
		print_wrapped(left, text);
	}
	for (size_t i = 0; i < SB_ARRAY_SIZE(own); i++)
		print_wrapped(own[i].left, own[i].help);
	printf("\nExamples:\n  stallbox-gateway\n"
	       "  stallbox-gateway --listen 127.0.0.1:8080 --token-file read:/etc/stallbox/token\n");
}

static int usage(const char *what, const char *detail)
{
	log_err("%s: %s", what, detail);
	fprintf(stderr, "try 'stallbox-gateway --help'\n");
	return SB_EXIT_USAGE;
}

static int load_config(struct gateway_options *o, const char *path)
{
	_cleanup_free_ struct config_errors *e = calloc(1, sizeof(*e));
	char text[1024];

	if (!e)
		return log_errno(-ENOMEM, "cannot read the configuration"), SB_EXIT_FAILURE;
	config_load(&o->config, path ? path : CONFIG_FILE, path != NULL, e);
	for (size_t i = 0; i < e->n; i++) {
		config_error_text(&e->error[i], text, sizeof(text));
		log_err("%s", text);
	}
	if (e->more)
		log_err("%zu more errors in the configuration", e->more);
	return e->n ? SB_EXIT_CONFIG : -1;
}

static int set_key(struct gateway_options *o, size_t i, const char *value)
{
	char what[64], error[320];

	if (config_set(&o->config, key_of(i), value, error, sizeof(error)) == 0)
		return -1;
	snprintf(what, sizeof(what), "--%s", keys[i].flag);
	return usage(what, error);
}

static int set_own(struct gateway_options *o, int which, const char *value)
{
	switch (which) {
	case OWN_RENDERER:
		o->renderer = value;
		return -1;
	case OWN_VERBOSE:
		o->verbose = true;
		return -1;
	case OWN_VERSION:
		printf("stallbox-gateway %s\n", SB_VERSION);
		return SB_EXIT_OK;
	case OWN_HELP:
		print_help();
		return SB_EXIT_OK;
	default:
		return -1; /* --config: read before */
	}
}

int gateway_options_read(struct gateway_options *o, int argc, char **argv)
{
	struct option all[SB_ARRAY_SIZE(keys) + SB_ARRAY_SIZE(own) + 1] = {};
	const char *path = NULL;
	int c, r;

	for (size_t i = 0; i < SB_ARRAY_SIZE(keys); i++)
		all[i] = (struct option){ keys[i].flag, required_argument, NULL, (int)i };
	for (size_t i = 0; i < SB_ARRAY_SIZE(own); i++)
		all[SB_ARRAY_SIZE(keys) + i] = own[i].option;
	memset(o, 0, sizeof(*o));
	o->renderer = "stallbox";
	/* The file first, wherever it stands on the command line: options win. */
	opterr = 0;
	while ((c = getopt_long(argc, argv, "", all, NULL)) != -1)
		path = c == OWN_CONFIG ? optarg : path;
	r = load_config(o, path);
	optind = 0;
	opterr = 1;
	while ((c = getopt_long(argc, argv, "", all, NULL)) != -1) {
		int done;

		if (c == '?') {
			fprintf(stderr, "try 'stallbox-gateway --help'\n");
			return SB_EXIT_USAGE;
		}
		done = c < OWN_CONFIG ? set_key(o, (size_t)c, optarg) : set_own(o, c, optarg);
		if (done >= 0)
			return done;
	}
	if (optind < argc)
		return usage("unexpected argument", argv[optind]);
	return r;
}
