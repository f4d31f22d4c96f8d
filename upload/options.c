// SPDX-License-Identifier: BSD-2-Clause
#include "upload/options.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>

#include "format/log.h"
#include "format/uploaded.h"
#include "upload/credentials.h"
#include "upload/http.h"
#include "upload/key.h"
#include "upload/s3.h"

static const struct option long_options[] = {
	{ "config", required_argument, NULL, 'c' }, { "once", no_argument, NULL, 'o' },
	{ "status", required_argument, NULL, 's' }, { "max-rate", required_argument, NULL, 'r' },
	{ "verbose", no_argument, NULL, 'v' },	    { "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },	    {},
};

static void print_help(void)
{
	printf("Usage: stallbox-upload [OPTIONS]\n"
	       "Deliver captures to an S3-compatible store and their profiles to Pyroscope.\n\n"
	       "  --config FILE    default " CONFIG_FILE ": [Upload] and [Storage]\n"
	       "  --once           deliver what there is, then end; exit 1: not everything was\n"
	       "  --status FILE    what has been done, for others to read;\n"
	       "                   default " UPLOAD_STATUS "\n"
	       "  --max-rate SIZE  bytes a second, 4K at least, such as 500K or 10M\n"
	       "                   (the default); 0: no limit\n"
	       "  --verbose        also failures that repeat\n"
	       "  --version        print the version\n"
	       "  --help           print this text\n\n"
	       "Examples:\n"
	       "  stallbox-upload --once --verbose\n"
	       "  stallbox-upload --config /etc/stallbox/stallbox.conf --max-rate 1M\n");
}

static int usage(const char *what, const char *value)
{
	log_err("%s '%s'", what, value);
	fputs("try 'stallbox-upload --help'\n", stderr);
	return SB_EXIT_USAGE;
}

/* "10M" in bytes a second, powers of 1024. */
static bool parse_rate(const char *s, uint64_t *ret)
{
	static const char units[] = "KMG";
	char *end;
	uint64_t v = strtoull(s, &end, 10);
	const char *unit = *end ? strchr(units, *end) : NULL;
	unsigned int shift = unit ? 10 * (unsigned int)(unit - units + 1) : 0;

	if (!isdigit((unsigned char)*s) || (*end && (!unit || end[1])) || v > UPLOAD_RATE_MAX >> shift ||
	    (v && v << shift < UPLOAD_RATE_MIN))
		return false;
	*ret = v << shift;
	return true;
}

int upload_options(struct upload_options *o, int argc, char **argv)
{
	int r;

	*o = (struct upload_options){ .config = CONFIG_FILE, .status = UPLOAD_STATUS, .max_bytes_per_s = UPLOAD_BYTES_PER_S };
	opterr = 0;
	while ((r = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
		switch (r) {
		case 'c':
			o->config = optarg;
			o->config_given = true;
			break;
		case 'o':
			o->once = true;
			break;
		case 's':
			o->status = optarg;
			break;
		case 'r':
			if (!parse_rate(optarg, &o->max_bytes_per_s))
				return usage("--max-rate: expected 0 or 4K to 1024G, such as 500K or 10M, not", optarg);
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'V':
			puts("stallbox-upload " SB_VERSION);
			return SB_EXIT_OK;
		case 'h':
			print_help();
			return SB_EXIT_OK;
		case ':':
			return usage("a value is missing after", argv[optind - 1]);
		default:
			return usage("unknown option", argv[optind - 1]);
		}
	}
	return optind < argc ? usage("unexpected argument", argv[optind]) : -1;
}

/* ---- the configuration ------------------------------------------------------------------ */

static int wrong(const char *key, const char *value, const char *expected)
{
	log_err("[Upload] %s='%s': expected %s", key, value, expected);
	return SB_EXIT_CONFIG;
}

static int check_store(const struct config_upload *u)
{
	static struct credentials credentials;
	char error[512];
	int r = 0;

	if (!http_url_ok(u->endpoint))
		r = wrong("Endpoint", u->endpoint, "http:// or https://, a host, perhaps a port and a path");
	else if (http_url_is_exposed(u->endpoint))
		log_warn("[Upload] Endpoint=%s: captures cross the network unencrypted", u->endpoint);
	if (!s3_bucket_ok(u->bucket))
		r = wrong("Bucket", u->bucket, "3 to 63 of [a-z0-9.-]");
	if (!u->region[0] || strpbrk(u->region, ": /"))
		r = wrong("Region", u->region, "a name such as eu-central-1; many other stores take any, such as default");
	if (!key_prefix_ok(u->prefix))
		r = wrong("Prefix", u->prefix, "names in [A-Za-z0-9._-] with single slashes between, none in front");
	if (!u->credentials_file[0])
		r = wrong("CredentialsFile", "", "a file with aws_access_key_id and aws_secret_access_key");
	else if (credentials_read(u->credentials_file, &credentials, error, sizeof(error)) < 0) {
		log_err("[Upload] CredentialsFile: %s", error);
		r = SB_EXIT_CONFIG;
	}
	explicit_bzero(&credentials, sizeof(credentials));
	return r;
}

static int check(const struct config_upload *u)
{
	int r = 0;

	if (!u->endpoint[0] && !u->pyroscope_url[0]) {
		log_err("nowhere to upload to: neither [Upload] Endpoint= nor PyroscopeUrl= is set");
		return SB_EXIT_CONFIG;
	}
	if (u->endpoint[0])
		r = check_store(u);
	if (u->pyroscope_url[0] && !http_url_ok(u->pyroscope_url))
		r = wrong("PyroscopeUrl", u->pyroscope_url, "http:// or https://, a host, perhaps a port and a path");
	else if (http_url_is_exposed(u->pyroscope_url))
		log_warn("[Upload] PyroscopeUrl=%s: profiles cross the network unencrypted", u->pyroscope_url);
	return r;
}

int upload_config(const struct upload_options *o, struct config *c)
{
	static struct config_errors e;
	char text[1024];

	config_load(c, o->config, o->config_given, &e);
	for (size_t i = 0; i < e.n; i++) {
		config_error_text(&e.error[i], text, sizeof(text));
		log_err("%s", text);
	}
	if (e.more)
		log_err("%zu more errors in the configuration", e.more);
	return e.n ? SB_EXIT_CONFIG : check(&c->upload);
}
