#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What the user sees of a bundle with known contents: counts add up, damage is told, names are
# harmless.
. "$(dirname "$0")/../lib.sh"

B=$TEST_TMP/x.stall.pb.zst
"$BUILD/tests/helpers/make_bundle" "$B" events=5000 || { fail "make_bundle"; finish; }

info=$("$STALLBOX" info --json "$B")
is "info counts every event" "$(jq -c '.events | with_entries(select(.value > 0))' <<<"$info")" '{"on-cpu":3000,"off-cpu":1500,"reclaim":500}'
is "the stackshot is counted" "$(jq .stackshot_threads <<<"$info")" 17
is "losses are told" "$(jq '.losses[0].count' <<<"$info")" 12345
is "the own cost is told" "$(jq -c '.own_cost | [.wakeups, .bytes_written, .worker_cpu_ns, .worker_rss_bytes, .bpf_time_ns, .period_ns, .windows, .budget_ppm, .limit_step, .limit_changes, .programs[0].runs]' <<<"$info")" \
	'[10,11,12,13,14,5000000000,15,16,2,18,1000]'
like "and for people: by program, and what is left out" "$("$STALLBOX" info "$B")" 'sched_switch: 500/s, 150 ns each.*cpu budget  0.0016 % of the machine; limited, step 2 of 4'
is "events lists every one" "$("$STALLBOX" events --json "$B" | wc -l)" 5000
is "fold adds up: samples" "$("$STALLBOX" fold "$B" | awk '{n += $NF} END {print n}')" 3000
us=$("$STALLBOX" events --json --kind off-cpu "$B" | jq -s 'map((.duration_ns + 500) / 1000 | floor) | add')
is "fold adds up: off-CPU microseconds" "$("$STALLBOX" fold --kind off-cpu "$B" | awk '{n += $NF} END {print n}')" "$us"
is "fold adds up: blocked threads" "$("$STALLBOX" fold --kind blocked "$B" | awk '{n += $NF} END {print n}')" 17
is "no line stands twice" "$("$STALLBOX" fold "$B" | sed 's/ [0-9]*$//' | sort | uniq -d | wc -l)" 0
a=$("$STALLBOX" events --json --until 0 "$B" | wc -l)
b=$("$STALLBOX" events --json --since 1us "$B" | wc -l)
is "since and until cut at the trigger" $((a + b)) 5000
is "events are in time order" "$("$STALLBOX" events --json --no-stacks "$B" | jq .ts_ns | sort -nc && echo yes)" yes
is "a filter by comm" "$("$STALLBOX" events --json --comm worker3 "$B" | jq -r .comm | sort -u)" worker3
is "and by a glob" "$("$STALLBOX" events --json --comm 'worker[34]' "$B" | jq -r .comm | sort -u | tr '\n' ' ')" "worker3 worker4 "
is "several kinds at once" "$("$STALLBOX" events --json --kind off-cpu,reclaim "$B" | jq -r .kind | sort | uniq -c | xargs)" "1500 off-cpu 500 reclaim"
is "while in reclaim: every span, and what began inside one" "$("$STALLBOX" events --json --while reclaim --kind reclaim "$B" | wc -l)" 500
inside=$("$STALLBOX" events --json "$B" | jq -s 'map(select(.kind == "reclaim") | {tid, b: (.ts_ns - .duration_ns), e: .ts_ns}) as $r
	| map(select(.kind == "on-cpu") | . as $s | select(any($r[]; .tid == $s.tid and .b <= $s.ts_ns and $s.ts_ns <= .e))) | length')
between "samples inside a reclaim span of their thread" "$inside" 1 3000
is "and the filter finds just these" "$("$STALLBOX" fold --while reclaim "$B" | awk '{n += $NF} END {print n}')" "$inside"
is "names are resolved" "$("$STALLBOX" fold "$B" | grep -cvE 'kfunc_[0-9]+_\[k\] [0-9]+$')" 0
is "standard input" "$("$STALLBOX" info --json - <"$B" | jq .events.reclaim)" 500
like "which is kept in TMPDIR" "$(TMPDIR=$TEST_TMP/none "$STALLBOX" info - <"$B" 2>&1)" "cannot read '-'.*No such file"
ok "packed again by stock zstd from a pipe" bash -c "zstdcat '$B' | zstd -q >'$TEST_TMP/again' && '$STALLBOX' verify '$TEST_TMP/again'"
ok "verify" "$STALLBOX" verify "$B"
# Events of many kinds and CPUs in turn: thousands of chunks of some 40 bytes in a frame.
ok "a bundle of small chunks is written" "$BUILD/tests/helpers/make_bundle" "$TEST_TMP/small" events=60000 stacks=500 threads=300 cpus=16
ok "and is whole" "$STALLBOX" verify "$TEST_TMP/small"
ok "stock tools decode it" bash -c "zstdcat '$B' | protoc --proto_path='$ROOT/format' --decode=stallbox.v1.Capture '$ROOT/format/capture.proto' >'$TEST_TMP/text'"
is "and see the same losses" "$(grep -c 'count: 12345' "$TEST_TMP/text")" 1

# Cut at every 4 KiB: recover gives every whole frame, and that file is whole but for its end.
size=$(stat -c %s "$B")
bad=0
cuts=0
for ((n = 4096; n < size; n += 4096)); do
	head -c "$n" "$B" >"$TEST_TMP/cut"
	cuts=$((cuts + 1))
	"$STALLBOX" recover "$TEST_TMP/cut" -o "$TEST_TMP/rec" 2>/dev/null || { [ "$("$STALLBOX" events --json "$TEST_TMP/cut" 2>/dev/null | wc -l)" = 0 ] || bad=$((bad + 1)); continue; }
	want=$("$STALLBOX" verify --json "$TEST_TMP/cut" | jq .events)
	got=$("$STALLBOX" verify --json "$TEST_TMP/rec" | jq -c '[.events, .bad_frames, .skipped_bytes]')
	[ "$got" = "[$want,0,0]" ] || bad=$((bad + 1))
done
between "cuts tried" $cuts 5 1000
is "each cut is recovered frame by frame" $bad 0
cp "$TEST_TMP/cut" "$TEST_TMP/itself"
is "recover onto itself is refused" "$("$STALLBOX" recover -o "$TEST_TMP/itself" "$TEST_TMP/itself" 2>&1 | head -n 1)" \
	"error: '$TEST_TMP/itself' is the bundle itself, expected another file"
ok "and it is as it was" cmp "$TEST_TMP/itself" "$TEST_TMP/cut"
: >"$TEST_TMP/nothing"
is "nothing to recover" "$("$STALLBOX" recover -o "$TEST_TMP/rec2" "$TEST_TMP/nothing" 2>/dev/null; echo $?)" 1
is "leaves no file" "$(ls "$TEST_TMP/rec2" 2>&1)" "ls: cannot access '$TEST_TMP/rec2': No such file or directory"
ln -s /dev/null "$TEST_TMP/device"
"$STALLBOX" recover -o "$TEST_TMP/device" "$TEST_TMP/nothing" 2>/dev/null
ok "and takes no device away" test -L "$TEST_TMP/device"

cp "$B" "$TEST_TMP/flip"
printf '\xff' | dd of="$TEST_TMP/flip" bs=1 seek=$((size * 3 / 4)) conv=notrunc status=none
out=$("$STALLBOX" verify "$TEST_TMP/flip")
is "a flipped byte makes verify fail" $? 1
like "and it says where" "$out" 'first at offset [0-9]+'
printf '\xff\xff' | dd of="$TEST_TMP/flip" bs=1 seek=40 conv=notrunc status=none
"$STALLBOX" info "$TEST_TMP/flip" >"$TEST_TMP/headless" 2>/dev/null
is "a lost header is told" "$(grep -c '^header *lost' "$TEST_TMP/headless")" 1
cp "$B" "$TEST_TMP/flip"
printf '\xff' | dd of="$TEST_TMP/flip" bs=1 seek=$((size * 3 / 4)) conv=notrunc status=none
ok "the rest can still be read" bash -c "'$STALLBOX' info '$TEST_TMP/flip' 2>/dev/null | grep -q reclaim-age"

# Hostile names.
H=$TEST_TMP/h.stall.pb.zst
"$BUILD/tests/helpers/make_bundle" "$H" events=500 hostile=1
is "a value that is no number is null in JSON" "$("$STALLBOX" info --json "$H" | jq -c '.trigger | [.value, .threshold]')" '[null,500]'
for k in on-cpu off-cpu reclaim blocked; do
	"$STALLBOX" flame --kind $k -o "$TEST_TMP/$k.svg" "$H"
	ok "the $k flame graph of hostile names is well-formed" xmllint --noout "$TEST_TMP/$k.svg"
done
is "one script element, our own" "$(grep -c '<script' "$TEST_TMP/on-cpu.svg")" 1
is "no escape reaches the terminal" "$({ "$STALLBOX" info "$H"; "$STALLBOX" events "$H"; "$STALLBOX" fold "$H"; } | grep -c $'\x1b')" 0
# The same stacks with harmless names: as many frames, the same weights.
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/harmless" events=500
shape() { "$STALLBOX" fold --kind "$1" "$2" | awk -F';' '{n = split($0, w, " "); print NF, w[n]}' | sort; }
for k in on-cpu off-cpu reclaim blocked; do
	is "a ';' in a name makes no frame: $k" "$(shape $k "$H")" "$(shape $k "$TEST_TMP/harmless")"
done
is "JSON stays JSON" "$("$STALLBOX" events --json "$H" | jq -c . | wc -l)" 500

# list: a good one, a damaged one, a foreign one.
mkdir "$TEST_TMP/dir"
cp "$B" "$TEST_TMP/dir/a-20261120T000001Z-x.stall.pb.zst"
cp "$TEST_TMP/flip" "$TEST_TMP/dir/a-20261120T000002Z-x.stall.pb.zst"
echo text >"$TEST_TMP/dir/a-20261120T000003Z-x.stall.pb.zst"
is "list tells them apart, newest first" "$("$STALLBOX" list --json "$TEST_TMP/dir" | jq -r .state | tr '\n' ' ')" "unreadable damaged complete "
finish
