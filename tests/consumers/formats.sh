#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Exports opened by those who read them: speedscope's schema, our own for NDJSON, the Firefox
# Profiler's command line. (go tool pprof and perf script text: tests/cli/export.sh)
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"

"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/plain" events=5000 locks=1
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/hostile" events=2000 locks=1 hostile=1
PQ=$MODULES/@firefox-devtools/profiler-cli/dist/profiler-cli.js
export PROFILER_CLI_SESSION_DIR=$TEST_TMP/profiler-cli
pq() { "$NODE" "$PQ" "$@"; }
test_cleanup() { pq stop --all >/dev/null 2>&1; }

for b in plain hostile; do
	B=$TEST_TMP/$b
	"$STALLBOX" export --format speedscope -o "$TEST_TMP/s.json" "$B"
	ok "speedscope's schema ($b)" "$NODE" "$CONSUMERS/schema.js" "$MODULES/speedscope/dist/release/file-format-schema.json" "$TEST_TMP/s.json"
	"$STALLBOX" export --format ndjson -o "$TEST_TMP/n.json" "$B"
	ok "our schema of NDJSON ($b)" "$NODE" "$CONSUMERS/schema.js" "$ROOT/docs/ndjson.schema.json" "$TEST_TMP/n.json" --lines
	sed 's/"ts_ns"/"ts"/' "$TEST_TMP/n.json" >"$TEST_TMP/bad.json"
	"$NODE" "$CONSUMERS/schema.js" "$ROOT/docs/ndjson.schema.json" "$TEST_TMP/bad.json" --lines >/dev/null
	is "and it refuses what is not in it ($b)" $? 1

	"$STALLBOX" export --format firefox -o "$TEST_TMP/f.json" "$B"
	ok "the Firefox Profiler loads it ($b)" pq load "$TEST_TMP/f.json"
	pq thread list --json --limit 0 >"$TEST_TMP/threads"
	samples=0
	while read -r t; do
		n=$(pq thread info --thread "$t" --json | jq .sampleCount)
		samples=$((samples + n))
	done < <(jq -r '.threads[].threadHandle' "$TEST_TMP/threads")
	is "the Firefox Profiler counts the samples ($b)" "$samples" "$(total on-cpu "$B")"
	pq profile markers --json --limit 0 >"$TEST_TMP/markers"
	for k in off-cpu reclaim lock-wait lock-hold syscall softirq block-io slab hardirq; do
		is "the Firefox Profiler adds up its markers: $k ($b)" \
			"$(jq --arg k $k '[.markers[] | select(.name == $k).data.us] | add' "$TEST_TMP/markers")" "$(total $k "$B")"
	done
	# A marker is as long as the span that was recorded; its weight says for how many it stands.
	for k in reclaim lock-wait; do
		read -r us many <<<"$(recorded $k "$B")"
		is "the Firefox Profiler draws what was recorded: $k ($b)" \
			"$(jq --arg k $k '[.markers[] | select(.name == $k).duration] | add * 1000 | round' "$TEST_TMP/markers")" "$us"
		is "and each marker knows for how many it stands: $k ($b)" \
			"$(jq --arg k $k '[.markers[] | select(.name == $k).data.weight] | add' "$TEST_TMP/markers")" "$many"
	done
	is "a marker of a hardirq ($b)" "$(jq -r '.markers[] | select(.name == "hardirq").data.what' "$TEST_TMP/markers")" '27 virtio0-input'
	is "markers have stacks ($b)" "$(jq '[.markers[] | select(.name == "off-cpu") | .hasStack] | unique' -c "$TEST_TMP/markers")" '[true]'
	hot=$("$STALLBOX" fold --tid 1003 "$B" | awk '{n = $NF; sub(/ [0-9]+$/, ""); k = split($0, f, ";"); leaf[f[k]] += n}
		END {for (l in leaf) print leaf[l]}' | sort -nr | head -n 1)
	handle=$(jq -r '.threads[] | select(.tid == 1003).threadHandle' "$TEST_TMP/threads")
	is "the hottest function of a thread ($b)" "$(pq thread functions --thread "$handle" --json | jq '[.functions[].selfSamples] | max')" "$hot"
	pq stop --all >/dev/null
done
finish
