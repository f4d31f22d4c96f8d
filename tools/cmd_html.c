// SPDX-License-Identifier: BSD-2-Clause
/* stallbox html: everything a bundle says in one page that needs no network. */
#include <errno.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/html.h"

static const struct opt_command command = {
	"html", "BUNDLE", "Write one HTML page with charts, heat map, flame graphs and tables. It needs no network.",
	{ "stallbox html -o x.html X.stall.pb.zst", "stallbox html --since -30s --until 5s X.stall.pb.zst > x.html" },
};

static const char uplot_css[] =
#include "tools/html/vendor/uPlot.min.css.inc"
	;
static const char page_css[] =
#include "tools/html/page.css.inc"
	;
static const char page_body[] =
#include "tools/html/page.html.inc"
	;
static const char script[] =
#include "tools/html/script.js.inc"
	;
/* Nothing may be fetched, and no script may run but ours: the browser refuses what this policy
 * does not name. */
static const char policy[] =
	"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; script-src 'sha256-"
#include "tools/html/script.hash.inc"
	"'";

static int put_page(struct html *h)
{
	const struct bundle_header *head = bundle_header(h->x.b);
	FILE *out = h->x.out;
	int r;

	fprintf(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		"<meta http-equiv=\"Content-Security-Policy\" content=\"%s\">\n", policy);
	fputs("<meta name=\"viewport\" content=\"width=device-width\">\n<title>", out);
	escape_put(out, ESCAPE_XML, head ? head->hostname : "stallbox");
	fputs(": ", out);
	escape_put(out, ESCAPE_XML, head ? head->trigger.name : "unknown trigger");
	fprintf(out, "</title>\n<style>%s%s</style>\n</head>\n<body>\n%s", uplot_css, page_css, page_body);
	fputs("<script type=\"application/json\" id=\"facts\">", out);
	r = html_put_facts(h);
	if (r < 0)
		return r;
	fputs("</script>\n<script type=\"text/plain\" id=\"columns\">", out);
	r = html_put_columns(h);
	if (r < 0)
		return r;
	fprintf(out, "</script>\n<script>%s</script>\n</body>\n</html>\n", script);
	return 0;
}

int cmd_html(int argc, char **argv)
{
	SB_CLEANUP(bundle_closep) struct bundle *b = NULL;
	SB_CLEANUP(filter_done) struct filter filter = FILTER_INIT;
	const char *output = NULL;
	struct html h;
	int first, r;
	const struct opt opts[] = {
		{ "output", "FILE", OPT_TEXT, &output, "write here instead of standard output (-o)" },
		FILTER_OPTIONS_NO_KIND(filter),
		{}
	};

	r = opt_parse(&command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	r = filter_open(&filter, &command, argc, argv, first, &b);
	if (r >= 0)
		return r;
	if (output && strcmp(output, "-") && !freopen(output, "we", stdout)) {
		fprintf(stderr, "error: cannot write '%s': %s\n", output, strerror(errno));
		return SB_EXIT_FAILURE;
	}
	r = html_read(&h, b, &filter, first < argc ? argv[first] : "-", stdout);
	if (r == 0)
		r = put_page(&h);
	html_done(&h);
	if (r < 0)
		fprintf(stderr, "error: cannot write the page: %s\n", strerror(-r));
	return r < 0 ? SB_EXIT_FAILURE : SB_EXIT_OK;
}
