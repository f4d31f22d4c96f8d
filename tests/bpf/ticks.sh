#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Samples taken at the scheduler's ticks: what ran in the kernel has its own stack and none of the interrupt's, programs that
# run a little at a time have as many as their share of the time, and where there are fewer ticks than samples are wanted
# each CPU has a timer again.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

sampler() { "$STALLBOX" status --json --socket "$SOCKET" | jq -r ".sampler.$1"; }
isqrt() { awk -v n="$1" 'BEGIN { printf "%d\n", sqrt(n) + 1 }'; }
events_open() { find "$PINS" -name 'link_sample_*' | wc -l; } # pinned, from 5.15 on

start_agent --post 1s || { fail "agent starts"; finish; }
if [ "$(sampler clock)" != tick ]; then
	why=
	[ "$(python3 -c 'import time; print(time.clock_getres(1))')" = 1e-09 ] || why='no timers of high resolution'
	grep -q '[0-9]' /sys/devices/system/cpu/nohz_full 2>/dev/null && why="nohz_full=$(cat /sys/devices/system/cpu/nohz_full)"
	grep -q tick_cpu_sched /sys/kernel/btf/vmlinux || why='BTF does not tell of the tick'
	if [ -n "$why" ]; then skip "samples at ticks" "$why"; else fail "samples are taken at ticks" "by a timer"; fi
	finish
fi
tick_ns=$(sampler tick_ns)
config=$(cat "/boot/config-$(uname -r)" 2>/dev/null || zcat /proc/config.gz 2>/dev/null)
if [ -n "$config" ]; then
	is "the tick's length is that of CONFIG_HZ (us)" $((tick_ns / 1000)) $((1000000 / $(sed -n 's/^CONFIG_HZ=//p' <<<"$config")))
else
	skip "the tick's length is that of CONFIG_HZ" "the kernel's configuration is not there"
fi
is "one CPU has a timer, for conditions where nothing runs" "$(events_open)" "$(log_has 'while no agent runs' && echo 0 || echo 1)"

# A program that is busy for 0.2 to 3 ms at a time: as many samples as its share of the time, to four standard deviations of
# their number, and one that keeps its CPU in the kernel.
cat >"$TEST_TMP/bursts.py" <<'PY'
import random, sys, time
random.seed(1)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    stop = time.thread_time() + random.uniform(0.0002, 0.003)
    while time.thread_time() < stop:
        pass
    time.sleep(random.uniform(0.0005, 0.004))
print("done", flush=True)
time.sleep(1000)
PY
cpu_ns() { cut -d' ' -f1 "/proc/$1/schedstat"; }
python3 "$TEST_TMP/bursts.py" 15 >"$TEST_TMP/bursts" &
burst=$!
TEST_PIDS+=("$burst")
"$WORKLOADS/syshog" 3 >"$TEST_TMP/syshog"
word() { grep -oE "\b$2=[0-9]+" "$TEST_TMP/$1" | head -n 1 | cut -d= -f2; }
wait_for 60 test -s "$TEST_TMP/bursts"
ns=$(cpu_ns "$burst")
ok "a freeze gives a bundle" freeze
read -r n stand < <(events --kind on-cpu --pid "$burst" --no-stacks "$BUNDLE" | jq -rs '"\(length) \(map(.duration_ns) | add)"')
chance=$(($(isqrt $((ns * 99 / 1000000000 * 16))) * 10)) # ms
echo "# $n samples of $((ns / 1000000)) ms"
if [ -n "${STALLBOX_IN_VM:-}" ]; then
	skip "samples stand for the time of a program that is busy a little at a time" "an emulated CPU sees the tick and the end of a sleep in one interrupt"
else
	between "samples stand for the time of a program that is busy a little at a time (ms)" $((stand / 1000000)) \
		$((ns / 1000000 - chance)) $((ns / 1000000 + chance))
fi
events --kind on-cpu --pid "$(word syshog pid)" "$BUNDLE" >"$TEST_TMP/hog"
jq -r --argjson begin "$(word syshog begin_ns)" 'select((.user | not) and .ts_ns > $begin) | .kstack | join(";")' "$TEST_TMP/hog" >"$TEST_TMP/stacks"
used=$(word syshog system_ms)
between "$(jq -s 'map(select(.user | not)) | length' "$TEST_TMP/hog") samples of a program in the kernel stand for its time there (ms)" \
	"$(jq -s 'map(select(.user | not) | .duration_ns) | add / 1000000 | round' "$TEST_TMP/hog")" $((used * 9 / 10 - 20)) $((used * 11 / 10 + 20))
# A program of the recorder's at a system call may well be what it was doing. It asks for the time between two calls, which
# is a system call, too, where the clock is one that only the kernel can read.
is "none has the interrupt that sampled it" "$(grep -cE 'hrtimer_interrupt|hrtimer_run_queues|hrtimer_expire' "$TEST_TMP/stacks")" 0
between "of 100, those that begin in the random generator or on the way there" \
	"$(awk -F';' '/getrandom|random_bytes|chacha|clock_gettime/ { n++ } END { print int(100 * n / NR) }' "$TEST_TMP/stacks")" 90 100
stop_agent

# More samples than ticks.
hz=$((1000000000 / tick_ns))
start_agent --post 1s --frequency 999 || { fail "agent starts"; finish; }
is "at 999 Hz a timer takes the samples" "$(sampler clock)" timer
"$WORKLOADS/spinner" 2 >"$TEST_TMP/spinner"
ok "a freeze gives a bundle" freeze
events --kind on-cpu --pid "$(word spinner pid)" --no-stacks "$BUNDLE" >"$TEST_TMP/spun"
used=$(($(word spinner on_cpu_ns) / 1000000))
# On an emulated CPU many are late; such a one stands for all that it missed, and the next, in time again, for a whole period.
at_most=$((used * 11 / 10))
[ -z "${STALLBOX_IN_VM:-}" ] || at_most=$((used * 2))
between "which stand for its time (ms)" "$(jq -s 'map(.duration_ns) | add / 1000000 | round' "$TEST_TMP/spun")" $((used * 9 / 10)) $at_most
if [ -n "${STALLBOX_IN_VM:-}" ]; then
	skip "and are more than there were ticks" "an emulated CPU takes most of them late"
elif [ "$hz" -ge 999 ]; then
	skip "and are more than there were ticks" "there are as many"
else
	between "and are more than there were ticks" "$(wc -l <"$TEST_TMP/spun")" $((2 * hz + 1)) $((used * 11 / 10))
fi
finish
