#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The HTML page in headless Chromium: fold's totals, a range of the heat map, hostile names, 1 M events.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"
need_browser

totals() {
	local k sep=

	printf '{'
	for k in on-cpu off-cpu reclaim blocked lock-wait wakeup lock-hold syscall softirq block-io slab hardirq; do
		printf '%s"%s":%s' "$sep" $k "$(total $k "$1")"
		sep=,
	done
	printf '}'
}
# What fold has of a kind in a range that is a tick narrower, and a tick wider, than the page's.
within() { # WHAT VALUE KIND FROM TO BUNDLE
	local narrow wide

	narrow=$(total "$3" --since "$(awk "BEGIN {printf \"%.6fs\", $4 + 0.0001}")" --until "$(awk "BEGIN {printf \"%.6fs\", $5 - 0.0001}")" "$6")
	wide=$(total "$3" --since "$(awk "BEGIN {printf \"%.6fs\", $4 - 0.0001}")" --until "$(awk "BEGIN {printf \"%.6fs\", $5 + 0.0001}")" "$6")
	between "$1" "$2" "$narrow" "$wide"
}

verdict() { "$STALLBOX" report --json "$1" | jq -c '[.causes[].title]'; }
# As the bundle has them, not the page: [end in seconds from the trigger, length, weight, pages] of reclaim; kinds of marks.
facts() {
	RECLAIM=$TEST_TMP/reclaim.json
	"$STALLBOX" events --json --no-stacks --kind reclaim "$1" | jq -cs 'map([.offset_ns / 1e9, .duration_ns / 1e9, .weight, .nr_reclaimed])' >"$RECLAIM"
	MARKS=$("$STALLBOX" info --json "$1" | jq -c '[.marks[].kind]')
	VERDICT=$(verdict "$1")
	# How the text form of blame begins each chain: "held by" or "next is", and who.
	CHAINS=$("$STALLBOX" blame --json "$1" | jq -c '[.[].chain[0] | [if .found == "woken" then "next is " else "held by " end, .tid // 0]]')
	# Stacks and their weights; what each thread used, by which the table is sorted; where each stood at the freeze.
	FOLDED=$TEST_TMP/folded BUSY=$TEST_TMP/busy.json SHOT=$TEST_TMP/shot.json
	"$STALLBOX" fold "$1" | sort >"$FOLDED"
	"$STALLBOX" top --by thread --json "$1" | jq -cs '.[1:] | map({(.group): ([.before, .after | .usr_ns, .sys_ns, .d_ns, .runq_ns] | add)}) | add' >"$BUSY"
	"$STALLBOX" export --format ndjson "$1" | grep -E '^\{"type":"(stack|thread|shot)"' | jq -cs '(map(select(.type == "stack") | {(.id | tostring): [.frames[].name]}) | add) as $stack |
		(map(select(.type == "thread") | {(.id | tostring): .tid}) | add) as $tid |
		map(select(.type == "shot" and .kstack > 0) | [$tid[.thread | tostring], $stack[.kstack | tostring][0]])' >"$SHOT"
}
export VERDICT RECLAIM MARKS CHAINS FOLDED BUSY SHOT

for b in plain hostile thinned; do
	B=$TEST_TMP/$b
	name=
	[ $b = plain ] && "$BUILD/tests/helpers/make_bundle" "$B" events=5000 locks=1
	[ $b = thinned ] && "$BUILD/tests/helpers/make_bundle" "$B" events=5000 locks=1 thinned=1
	if [ $b = hostile ]; then
		"$BUILD/tests/helpers/make_bundle" "$B" events=5000 locks=1 hostile=2
		name='w<i>;\x1b[5m\xff0'
	fi
	ok "the page is written ($b)" "$STALLBOX" html -o "$TEST_TMP/page.html" "$B"
	is "no name ends a script element ($b)" "$(grep -c '</script>' "$TEST_TMP/page.html")" "$(grep -c '<script' "$TEST_TMP/page.html")"
	is "nothing is referred to by address ($b)" "$(grep -cE '(src|href)="(https?:)?//' "$TEST_TMP/page.html")" 0
	facts "$B"
	run_script html.js "$TEST_TMP/page.html" "$(totals "$B")" "$name" ${SHOTS:+"$SHOTS/$b.png"}
	read -r _ from to oncpu offcpu <<<"$(grep '^range ' <<<"$SCRIPT_OUT")"
	within "samples of the selected range ($b)" "$oncpu" on-cpu "$from" "$to" "$B"
	within "off-CPU time of the selected range ($b)" "$offcpu" off-cpu "$from" "$to" "$B"
done

B=$TEST_TMP/million
"$BUILD/tests/helpers/make_bundle" "$B" events=1666700 stacks=5000 threads=300 cpus=16
"$STALLBOX" html -o "$TEST_TMP/page.html" "$B"
between "samples" "$(total on-cpu "$B")" 1000000 1100000
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/m" events=1000000 stacks=5000 threads=300 cpus=16
"$STALLBOX" html -o "$TEST_TMP/small.html" "$TEST_TMP/m"
between "a page of 1 M events is at most 10 MB" "$(stat -c %s "$TEST_TMP/small.html")" 1000000 10000000
facts "$B"
run_script html.js "$TEST_TMP/page.html" "$(totals "$B")" ''

# Odd bundles still make a page that opens.
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/empty" events=0
"$STALLBOX" html -o "$TEST_TMP/page.html" "$TEST_TMP/empty"
run_script open.js "$TEST_TMP/page.html"
head -c 9000 "$TEST_TMP/plain" >"$TEST_TMP/cut"
"$STALLBOX" html -o "$TEST_TMP/page.html" "$TEST_TMP/cut" 2>/dev/null
run_script open.js "$TEST_TMP/page.html"
finish
