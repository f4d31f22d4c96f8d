#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The verdict: each rule speaks on the scene that was made for it and on no other; its numbers and commands
# hold; what is missing is said.
. "$(dirname "$0")/../lib.sh"
S=$TEST_TMP/scenes
mkdir "$S" "$TEST_TMP/bin"
report() { "$STALLBOX" report "$@"; }
said() { report "$@" 2>/dev/null | tr -s ' \n' ' '; } # without its line breaks
make_scene() { "$BUILD/tests/helpers/make_scene" "$@" || fail "make_scene $*"; }
rules() { report --json "$1" | jq -r '[.causes[].rule] | join(" ")'; }

# scene, weaker by, what must speak (all of it): the first line of each pair fires, the second is near it and must not.
while read -r scene scale want; do
	make_scene "$S/$scene.$scale" "$scene" scale="$scale"
	is "$scene at $scale %" "$(rules "$S/$scene.$scale")" "$want"
done <<'SCENES'
reclaim 100 reclaim-livelock runq-saturation
reclaim-open 100 reclaim-livelock
reclaim-open 10 calm
reclaim-healthy 100 calm
mmap 100 mmap-lock-stall reclaim-livelock
mmap-woken 100 mmap-lock-stall
mmap-brief 100 calm
softirq 100 softirq-delay
softirq 20 unidentified
softirq-alone 100 unidentified
throttle 100 cpu-throttle
throttle 2 calm
storage 100 storage-dstate
storage 10 unidentified
frozen 100 storage-dstate
percpu 100 unidentified
vfork 100 unidentified
fork 100 fork-storm
fork 5 calm
convoy 100 lock-convoy
one-holder 100 unidentified
runq 100 runq-saturation
runq 20 unidentified
runq 2 unidentified
runq-late 100 runq-saturation
calm 100 calm
odd 100 unidentified
both 100 reclaim-livelock mmap-lock-stall runq-saturation
SCENES
# Quota counters that were not read: the waiting is seen, its reason is not claimed.
make_scene "$S/quota" throttle bare=1
is "a quota that nobody counted" "$(rules "$S/quota")" "idle-cpus"
is "each built-in rule has spoken in one of these" "$(for f in "$S"/*; do rules "$f"; done | tr ' ' '\n' | sort -u | xargs)" \
	"$(sed -n 's/^rule //p' "$ROOT"/tools/rules/*.rule | sort | xargs)"

# What it says.
text=$(said "$S/reclaim.100")
like "reclaim: who, where, how full" "$text" 'most of them of clickhouse-serv\[2395806\] .*cgroup /docker/clickhouse.*uses 4.0 GiB of its limit of 4.0 GiB.*12 threads had not come back from it, the oldest for 2.0 s'
like "with the yield" "$text" '0.038 % of the scanned pages were reclaimed \(3172 of 8320000\)'
like "and how sure" "$text" '1\. Memory reclaim .*almost certainly; [89][0-9] of 100'
text=$(said "$S/mmap.100")
like "mmap_lock: the queue, the holder, the end of the chain" "$text" '20 threads waited for the mmap_lock of java\[7000\], the first for 2.5 s.*held for writing by java\[7000\] tid 7000 .*the chain ends at java\[7000\] tid 7001 \(runnable but not running\): shrink_lruvec'
like "the call that holds it, and of how many bytes" "$text" 'java\[7000\] tid 7000 has held it for writing in mmap\(\) of 5.0 GiB for 2.5 s; 20 threads wait\.'
like "the end of the chain: where it reclaims, how long, how much of it" "$text" 'java\[7000\] tid 7001 is in a page fault, reclaiming in cgroup /app for 3.0 s: 140000 pages scanned, 5 reclaimed so far'
make_scene "$TEST_TMP/unnamed" mmap unnamed=1
like "and where the cgroup was gone before it could be named, that" "$(said "$TEST_TMP/unnamed")" 'tid 7001 is in a page fault, reclaiming for 3.0 s: 140000 pages scanned, 5 reclaimed so far\. Its cgroup was gone before it could be named'
text=$(said "$S/mmap-woken.100")
like "mmap_lock that was let go is held by nobody" "$text" 'Nobody held it at that moment: it had been let go, and java\[7000\] tid 7000 was woken to take it and had not run yet \(runnable but not running\)'
is "and nothing says that the one woken holds it" "$(grep -c 'It was held for' <<<"$text")" 0
like "reclaim that has not ended" "$(said "$S/reclaim-open.100")" 'Memory reclaim holds threads up: .*\(possibly; [0-9]+ of 100\) At the freeze 1 threads had not come back from it, the oldest for 700 ms \(java\[7000\]\)'
like "softirq: the call and its file" "$(said "$S/softirq.100")" 'cadvisor\[2300\] tid 2344 spends up to 82 ms on the CPU in one read\(\) of memory.stat'
like "throttle: how much" "$(said "$S/throttle.100")" '/kubepods/pod1/web was kept from running for 0.8 s in every second'
like "storage: where" "$(said "$S/storage.100")" '10 threads were in D state in storage code at the freeze, one for 6.0 s; 10 of them are named postgres, 10 stand in jbd2_log_wait_commit.*12 slow block requests, 12 of them on device 254:0'
like "convoy: the lock changes hands" "$(said "$S/convoy.100")" 'of 16 threads waited for one mutex, in do_renameat2. It changed hands between 16 threads'
like "not known is said, with the strongest facts" "$(said "$S/odd.100")" 'Cause not identified .*system time was [0-9]+ % of 4 CPUs, 9[0-9] % of it in odd\[4000\]'
is "no sentence with a hole" "$(for f in "$S"/*; do report --json "$f"; done | jq -r '.. | strings' | grep -c '?')" 0

# Its numbers are those of the other views.
"$STALLBOX" top --json --since -10s --until 10s "$S/reclaim.100" | head -n 1 >"$TEST_TMP/top"
facts() { report --json "$1" | jq "$2"; }
is "reclaim time as in top" "$(facts "$S/reclaim.100" '.facts["reclaim.seconds"] * 1000 | round')" "$(jq '(.before.reclaim_ns + .after.reclaim_ns) / 1e6 | round' "$TEST_TMP/top")"
is "system time as in top" "$(facts "$S/reclaim.100" '.facts["cpu.system_percent"] * 100 | round')" \
	"$(jq '(.before.sys_ns + .after.sys_ns) / (.before.window_ns + .after.window_ns) / 4 * 10000 | round' "$TEST_TMP/top")"
is "spans as in hist" "$(facts "$S/reclaim.100" '.facts["reclaim.spans"]')" "$("$STALLBOX" hist reclaim --json --since -10s --until 10s "$S/reclaim.100" | jq .count)"
is "waiters as in blame" "$(facts "$S/mmap.100" '.facts["mmap.freeze_waiters"]')" "$("$STALLBOX" blame --json "$S/mmap.100" | jq '.[0].waiters | length')"

# Every command that it names works, in a directory whose name needs quotes.
ln -s "$STALLBOX" "$TEST_TMP/bin/stallbox"
mkdir "$TEST_TMP/it's a place"
bad=0 n=0
for f in "$S"/*.100 "$S/quota"; do
	cp "$f" "$TEST_TMP/it's a place/x"
	while IFS= read -r c; do
		n=$((n + 1))
		(cd "$TEST_TMP/bin" && PATH=$TEST_TMP/bin:$PATH bash -c "$c" >out 2>err </dev/null) || { bad=$((bad + 1)); echo "# failed: $c: $(head -n 1 "$TEST_TMP/bin/err")"; }
	done < <(report --json "$TEST_TMP/it's a place/x" | jq -r '.causes[].evidence[].command')
done
between "commands tried" $n 40 200
is "all of them work" $bad 0

# What is missing.
make_scene "$S/lost" reclaim losses=1
is "losses that could change it lower the confidence" "$(facts "$S/lost" '.causes[0].confidence') $(facts "$S/lost" '.causes[0].doubts | length')" "$(($(facts "$S/reclaim.100" '.causes[0].confidence') - 15)) 1"
like "and are told" "$(said "$S/lost")" 'This could be wrong: +9000 reclaim spans were not recorded.*could change this answer: +- 9000 records were dropped.*- 300 stacks were lost'
make_scene "$S/bare" convoy bare=1
is "without lock tracepoints the lock rule is not judged" "$(report --json "$S/bare" | jq -c '[.unjudged[].rule] | sort')" '["cpu-throttle","lock-convoy"]'
like "and that is said" "$(said "$S/bare")" 'Not judged: .*- Threads queue again and again .*: the bundle does not tell waits for locks'
head -c $(($(stat -c %s "$S/reclaim.100") / 2)) "$S/reclaim.100" >"$S/cut"
report "$S/cut" >"$TEST_TMP/cut" 2>/dev/null
is "a cut bundle is judged as far as it goes: exit status" $? 0
like "and that is said" "$(cat "$TEST_TMP/cut")" 'the file has no end'
is "never certain" "$(for f in "$S"/*; do report --json "$f" 2>/dev/null; done | jq '.causes[].confidence' | sort -n | tail -n 1 | awk '{print ($1 <= 95)}')" 1
is "the surest first" "$(report --json "$S/both.100" | jq '[.causes[].confidence] | . == (sort | reverse)')" true

# Rules of one's own.
mkdir "$TEST_TMP/own" "$TEST_TMP/broken" "$TEST_TMP/none"
cat >"$TEST_TMP/own/a.rule" <<'RULE'
rule odd-randomness
title Somebody wants much randomness
base 30
when cpu.system_percent >= 5 and softirq.late == 0
add 20 if cpu.system_percent > 0.1*cpu.user_percent
say {cpu.system_top} is in the kernel; {nobody.knows}
evidence it || stallbox top {bundle}
RULE
is "are judged beside the others" "$(report --rules "$TEST_TMP/own" --json "$S/odd.100" | jq -c '[.causes[] | [.rule, .confidence, .text[0]]]')" '[["odd-randomness",50,"odd[4000] is in the kernel; ?"]]'
printf 'rule x\ntitle y\nwhen cpu.busy_percent is 3\n' >"$TEST_TMP/broken/b.rule"
out=$(report --rules "$TEST_TMP/broken" "$S/odd.100" 2>&1)
is "a broken one is refused" $? 1
like "with its line" "$out" "broken/b.rule:3: no condition: 'cpu.busy_percent is 3'"
report --rules "$TEST_TMP/none" "$S/odd.100" >/dev/null 2>&1
is "a directory without rules" $? 3
is "facts can be printed" "$(report --facts "$S/both.100" | grep -cE '^(mmap.freeze_waiters +20|reclaim.cgroup_limit +4.0 GiB|mmap.holder +java\[7000\] tid 7000)$')" 3
H=$TEST_TMP/h.stall
"$BUILD/tests/helpers/make_bundle" "$H" events=3000 hostile=1 locks=1
is "no escape reaches the terminal" "$({ report "$H"; report --facts "$H"; } | grep -c $'\x1b')" 0
ok "hostile names stay JSON" bash -c "'$STALLBOX' report --json '$H' | jq -e .facts >/dev/null"
finish
