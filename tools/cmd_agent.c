// SPDX-License-Identifier: BSD-2-Clause
/* stallbox freeze, status and triggers: ask the running agent over its control socket. */
#include <stdio.h>

#include "tools/client.h"
#include "tools/commands.h"
#include "tools/escape.h"

#define WAIT_MS 720000 /* the longest post window, and what follows it */

static const struct opt_command freeze_command = {
	"freeze", "", "Ask the agent to freeze the ring into a bundle now.",
	{ "stallbox freeze -r 'checkout was slow'", "stallbox freeze --wait" },
};
static const struct opt_command status_command = {
	"status", "", "Say what the agent records, lost and costs, and how its triggers stand.",
	{ "stallbox status", "stallbox status --json | jq .cost" },
};
static const struct opt_command triggers_command = {
	"triggers", "", "Say what each trigger sees, why it does not fire, and what became of it.",
	{ "stallbox triggers", "stallbox triggers --json | jq '.triggers[] | {name, why, last_24h}'" },
};

/* Line by line: names in it are not ours. */
static void print_lines(char *text)
{
	char *end;

	for (char *line = text; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		escape_put(stdout, ESCAPE_TERMINAL, line);
		putchar('\n');
	}
}

/* KEY=VALUE lines as one object. */
static void print_values(char *text)
{
	const char *sep = "";
	char *end;

	putchar('{');
	for (char *line = text; (end = strchr(line, '\n')); line = end + 1) {
		char *value = memchr(line, '=', (size_t)(end - line));

		*end = '\0';
		if (!value)
			continue;
		*value = '\0';
		printf("%s\"", sep);
		escape_put(stdout, ESCAPE_JSON, line);
		printf("\":\"");
		escape_put(stdout, ESCAPE_JSON, value + 1);
		putchar('"');
		sep = ",";
	}
	printf("}\n");
}

int cmd_freeze(int argc, char **argv)
{
	const char *reason = "", *path = NULL;
	_cleanup_free_ char *answer = NULL;
	bool wait = false, json = false;
	char request[400];
	int first, r;
	const struct opt opts[] = {
		{ "reason", "TEXT", OPT_TEXT, &reason, "kept in the bundle (-r)" },
		{ "wait", NULL, OPT_FLAG, &wait, "until the bundle is complete" },
		{ "json", NULL, OPT_FLAG, &json, "one JSON object" },
		CLIENT_SOCKET_OPT(&path),
		{}
	};

	r = opt_parse(&freeze_command, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(&freeze_command, "unexpected argument '%s'", argv[first]);
	snprintf(request, sizeof(request), "%s %.300s", wait ? "freeze-wait" : "freeze", reason);
	for (char *c = request; *c; c++) {
		if (*c == '\n')
			*c = ' ';
	}
	r = client_ask(path, request, wait ? WAIT_MS : CLIENT_ANSWER_MS, &answer);
	if (r == SB_EXIT_OK)
		(json ? print_values : print_lines)(answer);
	return r;
}

/* A question without arguments; one with --json has a name of its own. */
static int ask(const struct opt_command *cmd, int argc, char **argv)
{
	_cleanup_free_ char *answer = NULL;
	const char *path = NULL;
	bool json = false;
	char request[64];
	int first, r;
	const struct opt opts[] = {
		{ "json", NULL, OPT_FLAG, &json, "one JSON object" },
		CLIENT_SOCKET_OPT(&path),
		{}
	};

	r = opt_parse(cmd, opts, argc, argv, &first);
	if (r >= 0)
		return r;
	if (first < argc)
		return opt_usage(cmd, "unexpected argument '%s'", argv[first]);
	snprintf(request, sizeof(request), "%s%s", cmd->name, json ? "-json" : "");
	r = client_ask(path, request, CLIENT_ANSWER_MS, &answer);
	if (r != SB_EXIT_OK)
		return r;
	if (json)
		fputs(answer, stdout);
	else
		print_lines(answer);
	return r;
}

int cmd_status(int argc, char **argv)
{
	return ask(&status_command, argc, argv);
}

int cmd_triggers(int argc, char **argv)
{
	return ask(&triggers_command, argc, argv);
}
