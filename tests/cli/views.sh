#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# order, top and hist on bundles whose contents are known; the totals of every view agree.
. "$(dirname "$0")/../lib.sh"

S=$TEST_TMP/softirq.stall
"$BUILD/tests/helpers/make_scene" "$S" softirq || { fail "make_scene"; finish; }
B=$TEST_TMP/x.stall
"$BUILD/tests/helpers/make_bundle" "$B" events=20000 locks=1 || { fail "make_bundle"; finish; }

# ---- order
order() { "$STALLBOX" order "$@"; }
n=$("$STALLBOX" events --json --kind on-cpu "$S" | wc -l)
is "order: one line per sample" "$(order --json "$S" | wc -l)" "$n"
is "CPU by CPU, each in time order" "$(order --json "$S" | jq -r '"\(.cpu) \(.offset_ns)"' | sort -c -k1,1n -k2,2n && echo yes)" yes
is "mixed: one list in time order" "$(order --json --mixed "$S" | jq .offset_ns | sort -nc && echo yes)" yes
is "as text: a heading for each CPU" "$(order "$S" | grep -c '^CPU [0-9]*$')" 4
line=$(order --cpu 1 --comm cadvisor --since -6950ms --until 0 "$S" | sed -n 2p)
like "a line has offset, thread, call and stack, the leaf first" "$line" \
	'-6.900000s cadvisor 2300/2344 kernel in read  mem_cgroup_nr_lru_pages < memcg_stat_show < seq_read_iter < vfs_read < ksys_read < do_syscall_64 \| read < os'
like "and says what it left out" "$(order --frames 3 --comm cadvisor "$S" | sed -n 2p)" 'seq_read_iter < 6 more$'

order --before ksoftirqd --window 85ms --json "$S" >"$TEST_TMP/before"
is "every time ksoftirqd ran" "$(jq -s length "$TEST_TMP/before")" 9
is "what ran before it, sample by sample" "$(jq -s -c 'map(select(.occurrence.cpu == 1)) | map([.before[] | select(.kind == "on-cpu")] | length)' "$TEST_TMP/before")" '[7,7,7,7,7,7,7]'
is "nothing on the other CPU" "$(jq -s -c 'map(select(.occurrence.cpu == 2)) | map(.before | length)' "$TEST_TMP/before")" '[0,0]'
is "only in the window" "$(jq -s '[.[] | .occurrence.offset_ns as $o | .before[] | select(.offset_ns < $o - 85000000 or .offset_ns > $o)] | length' "$TEST_TMP/before")" 0
is "a shorter window holds less" "$(order --before ksoftirqd --window 35ms --json "$S" | jq -s '[.[].before[] | select(.kind == "on-cpu")] | length')" 14
text=$(order --before '^ksoftirqd' --window 85ms "$S")
like "summed up: who, how often, in which call of which file" "$text" '9 occurrences; what ran in the 85 ms before them: +7 of 9 +49 samples  cadvisor 2300 in read of memory.stat$'
like "an idle CPU is said to be idle" "$text" 'CPU 2 -20.300000s ksoftirqd/2 26/26 .* no sample on this CPU in that time'
is "a frame can be the pattern" "$(order --before 'net_rx_(action|softirq)' --json "$S" | wc -l)" 9
is "a name that never occurs" "$(order --before kfoo "$S")" 'nothing in this bundle matches'

# ---- hist
hist() { "$STALLBOX" hist "$@"; }
h=$(hist softirq-delay "$S")
like "hist: bpftrace's form" "$h" '@softirq-delay_us: count 7, .*longest 80.000 ms \[64K, 128K\) +7 \|@{52}\|'
is "buckets are powers of two of microseconds" "$(hist --json offcpu "$B" | jq -r '.buckets[] | "\(.from_us) \(.count)"' | tr '\n' ';')" \
	"$("$STALLBOX" events --json --kind off-cpu "$B" | jq -r '(.duration_ns / 1000 | floor) as $u | if $u == 0 then 0 else pow(2; $u | log2 | floor) end' | sort -n | uniq -c | awk '{printf "%s %s;", $2, $1}')"
is "by state" "$(hist --by what --json offcpu "$B" | jq -s -c 'map([.group, .count]) | sort')" \
	"$("$STALLBOX" events --json --kind off-cpu "$B" | jq -s -c 'group_by(.state) | map([.[0].state, length])')"
is "what is not shown is in one group" "$(hist --by thread --top 3 --json offcpu "$B" | jq -s -c '[length, .[3].group, (map(.count) | add)]')" '[4,"17 others",6000]'
is "a filter" "$(hist --comm worker2 --json offcpu "$B" | jq .count)" "$("$STALLBOX" events --json --kind off-cpu --comm worker2 "$B" | wc -l)"
like "nothing recorded is no proof" "$(hist softirq "$TEST_TMP/x.stall" --since 50s)" 'no softirq event matches; the recorder notes them from the trigger'

# ---- top: both sides, and the totals of every view
"$STALLBOX" top --json "$B" >"$TEST_TMP/top"
value() { jq -s "(.[0].before.$1 + .[0].after.$1)" "$TEST_TMP/top"; }
folded() { "$STALLBOX" fold --weight "$@" "$B" | awk '{n += $NF} END {printf "%.0f\n", n}'; }
histed() { hist --json "$1" "$B" | jq -s 'map(.total_ns) | add'; }
is "on-CPU time: fold and top" $(($(value usr_ns) + $(value sys_ns))) "$(folded ns --kind on-cpu)"
is "samples" "$(value samples)" "$(folded count --kind on-cpu)"
offcpu=$(jq -s '[.[0].before, .[0].after | .d_ns, .s_ns, .runq_ns, .other_ns] | add' "$TEST_TMP/top")
is "off-CPU time: fold and top" "$offcpu" "$(folded ns --kind off-cpu)"
is "off-CPU time: hist" "$(histed offcpu)" "$offcpu"
is "run-queue time: hist and top" "$(histed runq)" "$(value runq_ns)"
is "reclaim time: fold and top" "$(value reclaim_ns)" "$(folded ns --kind reclaim)"
is "reclaim time: hist" "$(histed reclaim)" "$(value reclaim_ns)"
is "lock waits: fold and top" "$(value lock_wait_ns)" "$(folded ns --kind lock-wait)"
is "lock waits: hist" "$(histed lock-wait)" "$(value lock_wait_ns)"
is "lock holds: fold and top" "$(value lock_hold_ns)" "$(folded ns --kind lock-hold)"
is "lock holds: hist" "$(histed mmap-lock-hold)" "$(value lock_hold_ns)"
is "pages" "$(value reclaimed_pages)" "$("$STALLBOX" events --json --kind reclaim "$B" | jq -s 'map(.nr_reclaimed * (.weight // 1)) | add')"
between "among them sampled spans that stand for several" "$("$STALLBOX" events --json --kind reclaim "$B" | jq -s 'map(select(.weight > 1)) | length')" 100 400
# Above the CPU budget one sample stands for several, with the time of all of them: the text and JSON forms say so.
T=$TEST_TMP/thinned.stall
"$BUILD/tests/helpers/make_bundle" "$T" events=5000 thinned=1
read -r many ns stands <<<"$("$STALLBOX" events --json --no-stacks --kind on-cpu "$T" |
	jq -rs '[(map(.weight // 1) | add), (map(.duration_ns) | add), (map(select(.weight == 4)) | length)] | @tsv')"
is "samples that stand for four" "$stands" 500
is "the text says it too" "$("$STALLBOX" events --kind on-cpu "$T" | grep -c 'stands for 4')" 500
is "fold counts what thinned samples stand for" "$(B=$T folded count --kind on-cpu)" "$many"
is "and has their time once" "$(B=$T folded ns --kind on-cpu)" "$ns"
"$STALLBOX" top --json "$T" >"$TEST_TMP/top-thinned"
is "top counts them so" "$(jq -s '.[0].before.samples + .[0].after.samples' "$TEST_TMP/top-thinned")" "$many"
is "top has their time once" "$(jq -s '[.[0].before, .[0].after | .usr_ns, .sys_ns] | add' "$TEST_TMP/top-thinned")" "$ns"
for by in comm thread process cgroup cpu; do
	is "the rows add up to the sum: by $by" "$("$STALLBOX" top --by $by --json "$B" | jq -s -c '[.[0] , (.[1:] | {before: map(.before), after: map(.after)})] |
		([.[0].before, .[0].after] | map(del(.window_ns))) as $all | [.[1].before, .[1].after] | map(map(del(.window_ns)) | map(to_entries) | add | group_by(.key) |
		map({key: .[0].key, value: (map(.value) | add)}) | from_entries) | . == $all')" true
	is "fold --by $by has the same total" "$("$STALLBOX" fold --by $by "$B" | awk '{n += $NF} END {print n}')" "$(folded count --kind on-cpu)"
done
# What a view shows of a part of the time is what ended in it, by the events' own times.
in_part() { # KIND JQ: over the events of the kind that ended from 80 to 50 s before the trigger
	"$STALLBOX" events --json --no-stacks --kind "$1" "$B" | jq -s "map(select(.offset_ns >= -80e9 and .offset_ns <= -50e9)) | $2"
}
part=(--since -80s --until -50s)
n=$(in_part on-cpu length)
between "samples in a part of the time" "$n" 1000 11000
is "every view keeps to --since and --until: events" "$("$STALLBOX" events --json --kind on-cpu "${part[@]}" "$B" | wc -l)" "$n"
is "every view keeps to --since and --until: order" "$(order --json "${part[@]}" "$B" | wc -l)" "$n"
is "every view keeps to --since and --until: fold" "$("$STALLBOX" fold "${part[@]}" "$B" | awk '{n += $NF} END {print n}')" "$n"
is "every view keeps to --since and --until: top" "$("$STALLBOX" top --json "${part[@]}" "$B" | jq -s '.[0].before.samples + .[0].after.samples')" "$n"
is "every view keeps to --since and --until: hist" "$(hist --json offcpu "${part[@]}" "$B" | jq -c '[.count, .total_ns]')" \
	"$(in_part off-cpu '[length, (map(.duration_ns) | add)]' | jq -c .)"
# One block of 5 s that ends 2 s after the trigger is cut there.
is "a span over the trigger is cut at it" "$("$STALLBOX" top --json --comm worker0 "$B" | jq -s -c '.[0] | [.before, .after] | map(.lock_hold_ns)')" \
	"$("$STALLBOX" events --json --kind lock-hold "$B" | jq -c '(.offset_ns) as $o | [.duration_ns - $o, $o]')"
is "the states at the freeze" "$(jq -s -c '.[0].freeze | [.D, .R, .longest_d_ns]' "$TEST_TMP/top")" '[15,5,9000000000]'
like "as a table" "$("$STALLBOX" top "$B")" 'PROCESS +AT THE FREEZE +\|before +after .* all +D15 R5 9.0s .* server 1000 +D15 R5 9.0s'
is "sorted by a column" "$("$STALLBOX" top --by thread --sort reclaim --json "$B" | jq -s '.[1:] | map(.before.reclaim_ns + .after.reclaim_ns) | . == (sort | reverse)')" true

# ---- diff: two columns that are the two sides of top
M=$TEST_TMP/many.stall
"$BUILD/tests/helpers/make_bundle" "$M" events=50000
"$STALLBOX" top --json "$M" | head -n 1 >"$TEST_TMP/sides"
column() { "$STALLBOX" diff --folded --weight ns --kind "$1" "$M" | awk -v c="$2" '{n += $(NF - 2 + c)} END {printf "%.0f\n", n}'; }
is "diff --folded: the first column is the time before" "$(column reclaim 1)" "$(jq .before.reclaim_ns "$TEST_TMP/sides")"
is "the second is the time after" "$(column reclaim 2)" "$(jq .after.reclaim_ns "$TEST_TMP/sides")"
is "samples too" "$("$STALLBOX" diff --folded "$M" | awk '{a += $(NF - 1); b += $NF} END {print a, b}')" \
	"$(jq -r '"\(.before.samples) \(.after.samples)"' "$TEST_TMP/sides")"
is "every stack once" "$("$STALLBOX" diff --folded "$M" | sed 's/ [0-9]* [0-9]*$//' | sort | uniq -d | wc -l)" 0
is "both together are fold's lines" "$("$STALLBOX" diff --folded "$M" | awk '{n = $(NF - 1) + $NF; sub(/ [0-9]+ [0-9]+$/, ""); print $0, n}' | sort | sha256sum)" \
	"$("$STALLBOX" fold "$M" | sort | sha256sum)"
is "two bundles: each is a column" "$("$STALLBOX" diff --folded "$B" "$M" | awk '{a += $(NF - 1); b += $NF} END {print a, b}')" "12000 30000"
"$STALLBOX" diff -o "$TEST_TMP/diff.svg" "$B" "$M"
ok "the picture is well-formed" xmllint --noout "$TEST_TMP/diff.svg"
"$STALLBOX" diff --width after --raw "$M" >"$TEST_TMP/diff.svg"
like "and says what it compares" "$(cat "$TEST_TMP/diff.svg")" 'golden: on-cpu, after the trigger against before.*after trigger reclaim-age: [0-9]+ samples in 10.0 s; before: [0-9]+ samples in 90.0 s'

# ---- usage
for bad in 'order --before (' 'order --window 1s' 'order --before x --window -1s' 'order --kind blocked' 'hist' 'hist foo' 'hist offcpu --by foo' 'top --by foo' 'top --sort foo' 'flame --by foo' 'flame --weight foo' 'diff --width foo' 'diff --kind blocked' 'diff a b' 'fold --by foo' 'fold --weight foo'; do
	# shellcheck disable=SC2086
	"$STALLBOX" $bad "$B" >"$TEST_TMP/out" 2>"$TEST_TMP/err"
	is "'$bad' is a usage error" "$? $(grep -c "^try 'stallbox" "$TEST_TMP/err") $(wc -c <"$TEST_TMP/out")" "2 1 0"
done
H=$TEST_TMP/h.stall
"$BUILD/tests/helpers/make_bundle" "$H" events=2000 hostile=1
is "no escape reaches the terminal" "$({ order "$H"; order --before . "$H"; hist offcpu --by thread "$H"; "$STALLBOX" top --by thread "$H"; "$STALLBOX" fold --by thread "$H"; } | grep -c $'\x1b')" 0
for c in 'order --json' 'order --json --before shrink|w' 'hist offcpu --by thread --json' 'top --json'; do
	# shellcheck disable=SC2086
	ok "$c of hostile names is JSON" bash -c "'$STALLBOX' $(printf '%q ' $c) '$H' | jq -e . >/dev/null"
done
finish
