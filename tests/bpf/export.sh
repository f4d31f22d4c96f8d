#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Exports and the page of a bundle that was recorded now: threads that spin and threads that wait in
# D state, seen by those who read the formats with fold's totals.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
. "$ROOT/tests/perfetto.sh"

export_() { "$STALLBOX" export --format "$@"; }
total() { "$STALLBOX" fold --kind "$1" "${@:2}" | awk '{n += $NF} END {printf "%.0f\n", n}'; }

start_agent --post 1s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
"$WORKLOADS/spinner" 2 3 >/dev/null &
spin=$!
TEST_PIDS+=("$spin")
WL_LINGER=1 "$WORKLOADS/dstall" 3 1 >/dev/null
wait "$spin"
ok "a freeze gives a bundle" freeze
between "the spinner was sampled" "$(total on-cpu --comm spinner "$BUNDLE")" 50 10000
between "waits in D state were recorded, microseconds" "$(total off-cpu --comm dstall --state D "$BUNDLE")" 500000 1000000000

for k in on-cpu off-cpu; do
	export_ perf-script --kind $k "$BUNDLE" >"$TEST_TMP/ps"
	is "perf script: weights of $k" "$(awk '/: +[0-9]+ [a-z-]+:$/ {n += $(NF - 1)} END {printf "%.0f\n", n}' "$TEST_TMP/ps")" "$(total $k "$BUNDLE")"
	is "speedscope: weights of $k" "$(export_ speedscope --kind $k "$BUNDLE" | jq '[.profiles[0].weights[]] | add')" "$(total $k "$BUNDLE")"
done
is "Firefox: samples" "$(export_ firefox "$BUNDLE" | jq '[.threads[].samples.length] | add')" "$(total on-cpu "$BUNDLE")"
is "NDJSON: events" "$(export_ ndjson "$BUNDLE" | jq -c 'select(.type == "event")' | wc -l)" "$("$STALLBOX" events --json --no-stacks "$BUNDLE" | wc -l)"
is "NDJSON: counters" "$(export_ ndjson "$BUNDLE" | jq -r 'select(.type == "series" and .name == "stat.ctxt") | .unit')" switches
if command -v go >/dev/null; then
	export_ pprof -o "$TEST_TMP/p.pb.gz" "$BUNDLE"
	is "go tool pprof: samples of the spinner" "$(go tool pprof -sample_index=on-cpu -nodefraction=0 -tagfocus=thread:spinner -top "$TEST_TMP/p.pb.gz" 2>/dev/null |
		sed -n 's/^Showing nodes accounting for \([0-9]*\),.*/\1/p')" "$(total on-cpu --comm spinner "$BUNDLE")"
	like "go tool pprof: and its function" "$(go tool pprof -sample_index=on-cpu -tagfocus=thread:spinner -top "$TEST_TMP/p.pb.gz" 2>/dev/null)" \
		"$("$STALLBOX" fold --comm spinner "$BUNDLE" | sort -t' ' -k2nr | head -n 1 | sed 's/ [0-9]*$//; s/_\[k\]//g; s/.*;//')"
else
	skip "go tool pprof" "no go command (Debian package golang-go)"
fi
export_ perfetto -o "$TEST_TMP/trace" "$BUNDLE"
decode_perfetto "$TEST_TMP/trace" >"$TEST_TMP/text"
is "Perfetto's schema: protoc decodes the trace" $? 0
is "Perfetto's schema knows every field" "$(unknown_fields "$TEST_TMP/text")" 0
is "Perfetto's schema: events of each kind and how long they are" "$(perfetto_events "$TEST_TMP/text" | cut -f1,3 | sort | md5sum)" \
	"$(bundle_events "$BUNDLE" | cut -f1,3 | sort | md5sum)"
if [ -d "$ROOT/tests/node_modules" ] && command -v chromium >/dev/null && [ -z "${STALLBOX_IN_VM:-}" ]; then
	. "$ROOT/tests/consumers/lib.sh"
	need_browser
	timeout 120 "$NODE" "$CONSUMERS/perfetto.js" "$TEST_TMP/trace" 'select count(*) from perf_sample' \
		"select coalesce(group_concat(name || ' ' || value), 'none') from stats where severity in ('error', 'data_loss') and value > 0" \
		"select sum(dur) / 1000 from slice where category = 'off-cpu'" \
		"select count(*) > 0 from counter c join track t on c.track_id = t.id where t.name = 'stat.ctxt'" >"$TEST_TMP/rows" 2>&1
	mapfile -t rows <"$TEST_TMP/rows"
	is "Perfetto: samples" "${rows[0]}" "[[$(total on-cpu "$BUNDLE")]]"
	is "Perfetto: no import error" "${rows[1]}" '[["none"]]'
	is "Perfetto: time off the CPU" "${rows[2]}" "[[$(total off-cpu "$BUNDLE")]]"
	is "Perfetto: a counter" "${rows[3]}" '[[1]]'
	"$STALLBOX" html -o "$TEST_TMP/page.html" "$BUNDLE"
	run_script open.js "$TEST_TMP/page.html"
else
	skip "Perfetto and the page" "no npm packages in tests or no chromium"
fi
finish
