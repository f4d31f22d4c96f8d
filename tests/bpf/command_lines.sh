#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The first bytes of the arguments of programs, as they were at the exec, against what the test gave.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

spawn "$WORKLOADS/sleeper" 100000 20
old=$SPAWNED
start_agent --post 1s --cpu-budget 100% --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
# Who was forked ends with its parent: nobody else does it, and it holds what the test was started with.
busy='import os, sys, time
parent = os.getpid()
if sys.argv[1] == "fork" and os.fork():
    os.wait()
if sys.argv[1] == "hide":
    import ctypes
    ctypes.CDLL(None).prctl(15, b"hidden", 0, 0, 0)
while sys.argv[1] != "fork" or os.getppid() == parent:
    time.sleep(0.02)'
spawn /usr/bin/python3 -c "$busy" plain $'new\nline' '' 'two words'
plain=$SPAWNED
printf -v long '%0300d' 7
spawn /usr/bin/python3 -c 'import time
while True: time.sleep(0.02)' "$long"
long_pid=$SPAWNED
spawn /usr/bin/python3 -c "$busy" fork
fork=$SPAWNED
# Every length around what is kept, by programs with these names alone.
mkdir "$TEST_TMP/bin"
ln -s "$WORKLOADS/sleeper" "$TEST_TMP/s"
for n in 1 40 82 83 84 85 86 200; do
	(cd "$TEST_TMP" && exec -a "$(printf "%0${n}d" 0)" ./s 100000 20) >/dev/null &
	TEST_PIDS+=($!)
	echo "$! $n" >>"$TEST_TMP/lengths"
done
child() { pgrep -P "$fork"; }
ok "the child is there" wait_for 30 child
TEST_PIDS+=("$(child)")
# All have slept for long enough to be recorded.
recorded() {
	freeze || return 1
	events --kind off-cpu --no-stacks "$BUNDLE" | jq -r .pid | sort -u >"$TEST_TMP/seen"
	for p in "$old" "$plain" "$long_pid" "$(child)" $(cut -d' ' -f1 "$TEST_TMP/lengths"); do
		grep -qx "$p" "$TEST_TMP/seen" || return 1
	done
}
ok "all are in a bundle" wait_for 120 recorded
"$STALLBOX" export --format ndjson "$BUNDLE" | jq -c 'select(.type == "process")' >"$TEST_TMP/processes"
# Of the program that the process is now: it may have been others.
now_is() { jq -rs "map(select(.pid == $1 and (.exit_ns // 0) == 0) | $2) | unique | .[]" "$TEST_TMP/processes"; }
of() { now_is "$1" '.cmdline // "-"'; }
bytes_of() { now_is "$1" '.cmdline_bytes // 0'; }
# What the kernel says now, as we write it: the same bytes.
truth() { head -c 84 "/proc/$1/cmdline" | tr '\000' '\001' | sed '$s/\x01*$//' | tr '\001' ' '; }
is "arguments are those of /proc" "$(of "$plain")" "$(truth "$plain")"
is "all of them are counted" "$(bytes_of "$plain")" "$(wc -c <"/proc/$plain/cmdline")"
is "long ones are cut" "$(of "$long_pid")" "$(truth "$long_pid")"
is "and it can be told" "$(bytes_of "$long_pid")" "$(wc -c <"/proc/$long_pid/cmdline")"
is "who only forked has its parent's" "$(of "$(child)")" "$(truth "$fork")"
is "who began before has none" "$(of "$old")" -
wrong=''
while read -r pid n; do
	[ "$(of "$pid")" = "$(truth "$pid")" ] || wrong="$wrong $n: $(of "$pid")"
done <"$TEST_TMP/lengths"
is "every length around the limit" "$wrong" ''
# Where the kernel leaves out the program at an exec, a process has its parent's arguments until it gets a record on the CPU.
spawn bash -c 'while :; do :; done' spin 'no words but these'
spin=$SPAWNED
of_this() { freeze && "$STALLBOX" export --format ndjson "$BUNDLE" | jq -c 'select(.type == "process")' >"$TEST_TMP/processes" &&
	[ "$(of "$spin")" = "$(truth "$spin")" ]; }
ok "arguments of a program that began later" wait_for 60 of_this
ok "they become another's" "$BUILD/tests/helpers/pinpoke" "$PINS" args "$spin"
ok "and are its own again" wait_for 60 of_this
forked=$(child)
kill "$fork"
gone() { [ -n "$forked" ] && ! kill -0 "$forked"; }
ok "who was forked ends, too" wait_for 30 gone
stop_agent

start_agent --post 1s --cpu-budget 100% --trigger 'kernel:reclaim>600s' --command-line no || { fail "agent starts"; finish; }
spawn "$WORKLOADS/sleeper" 100000 20
later=$SPAWNED
asked() {
	freeze || return 1
	"$STALLBOX" export --format ndjson "$BUNDLE" | jq -c 'select(.type == "process")' >"$TEST_TMP/processes"
	grep -q "\"pid\":$later," "$TEST_TMP/processes"
}
ok "a bundle without them" wait_for 60 asked
is "has none" "$(jq -r 'select(.cmdline) | .pid' "$TEST_TMP/processes" | wc -l)" 0
finish
