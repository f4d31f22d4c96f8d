#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Exports opened in headless Chromium: speedscope itself, and Perfetto's trace processor.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"
need_browser

"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/plain" events=5000 locks=1
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/hostile" events=2000 locks=1 hostile=1
for b in plain hostile; do
	B=$TEST_TMP/$b
	leaf=$("$STALLBOX" fold "$B" | awk '{n = $NF; sub(/ [0-9]+$/, ""); k = split($0, f, ";"); leaf[f[k]] += n}
		END {for (l in leaf) print leaf[l]}' | sort -nr | head -n 1)
	"$STALLBOX" export --format speedscope -o "$TEST_TMP/s.json" "$B"
	run_script speedscope.js "$TEST_TMP/s.json" 'on-cpu (samples)' "$(total on-cpu "$B")" "$leaf"

	"$STALLBOX" export --format perfetto -o "$TEST_TMP/p" "$B"
	timeout 120 "$NODE" "$CONSUMERS/perfetto.js" "$TEST_TMP/p" \
		'select count(*) from perf_sample' \
		"select sum(value) from stats where severity in ('error', 'data_loss')" \
		"select count(*) from counter c join counter_track t on c.track_id = t.id where t.name = 'psi.memory.full'" \
		'select max(n) from (select count(*) n from perf_sample p join stack_profile_callsite c on p.callsite_id = c.id
			join stack_profile_frame f on c.frame_id = f.id group by f.name)' \
		"select count(*) from thread where name like 'w%' and tid between 1000 and 1019" \
		"select sum(t.int_value) from slice s join args t on s.arg_set_id = t.arg_set_id where s.category = 'sampled' and t.key = 'debug.samples'" \
		"select category, sum(dur) from slice where dur > 0 and category <> 'sampled' group by category" \
		"select s.category, sum(w.int_value), sum(us.int_value * w.int_value) from slice s join args w on s.arg_set_id = w.arg_set_id
			join args us on s.arg_set_id = us.arg_set_id where w.key = 'debug.weight' and us.key = 'debug.microseconds' group by s.category" \
		"select name, dur from slice where category in ('hardirq', 'softirq') order by category" \
		"select s.name from slice s join track t on s.track_id = t.id where t.name = 'trigger and marks' order by s.ts, s.id" >"$TEST_TMP/rows" 2>&1
	mapfile -t rows <"$TEST_TMP/rows"
	is "Perfetto: samples ($b)" "${rows[0]}" "[[$(total on-cpu "$B")]]"
	is "Perfetto: no import error ($b)" "${rows[1]}" '[[0]]'
	is "Perfetto: values of a counter ($b)" "${rows[2]}" '[[3]]'
	is "Perfetto: samples of the hottest leaf ($b)" "${rows[3]}" "[[$leaf]]"
	is "Perfetto: threads by name ($b)" "${rows[4]}" '[[20]]'
	is "Perfetto: every sample is in a slice of a CPU track ($b)" "${rows[5]}" "[[$(total on-cpu "$B")]]"
	for k in off-cpu lock-hold syscall softirq block-io slab hardirq; do
		is "Perfetto: time of $k ($b)" \
			"$(jq -r --arg k $k '.[] | select(.[0] == $k)[1] / 1000 | round' <<<"${rows[6]}")" "$(total $k "$B")"
	done
	# A slice is as long as the span that was recorded; its weight says for how many it stands.
	for k in reclaim lock-wait; do
		read -r us many <<<"$(recorded $k "$B")"
		is "Perfetto: recorded time of $k ($b)" \
			"$(jq -r --arg k $k '.[] | select(.[0] == $k)[1] / 1000 | round' <<<"${rows[6]}")" "$us"
		is "Perfetto: slices of $k and what they stand for ($b)" \
			"$(jq -c --arg k $k '.[] | select(.[0] == $k) | [.[1], .[2]]' <<<"${rows[7]}")" "[$many,$(total $k "$B")]"
		is "and that is their count in fold ($b)" "$many" "$(total $k --weight count "$B")"
	done
	between "reclaim was sampled ($b)" "$(($(total reclaim "$B") - $(recorded reclaim "$B" | cut -d' ' -f1)))" 1 100000000
	is "Perfetto: interrupts by name ($b)" "${rows[8]}" '[["hardirq 27 virtio0-input",6000000],["softirq NET_RX",100000]]'
	is "Perfetto: marks ($b)" "$(jq -c 'map(.[0] | sub("^kind.*"; "kind"))' <<<"${rows[9]}")" \
		'["sealed","trigger reclaim-age","kind","merged","no-names"]'
done
finish
