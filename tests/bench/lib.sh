# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash disable=SC2120,SC2154,SC2034 # tests/bench/run has them
# Shared by the parts of `make bench`. Measurements go to $RAW, a table that tests/bench/report reads:
#
#   host     KEY   TEXT              the machine
#   value    LOAD  SIDE  ROUND  N    one run, or one phase of one; less is better, unless tests/bench/report says otherwise
#   missing  LOAD  SIDE  TEXT        not measured, and why
#   count    WHAT  N                 counted, not sampled
#
# Sourced by tests/bench/run with T (a directory of its own) and RAW set.

bpffs=$T/bpf socket=$T/s agent='' side_pid='' switch_pid=''
mkdir -p "$bpffs" "$T/cap"

put() { local IFS=$'\t'; printf '%s\n' "$*" >>"$RAW"; }
note() { if [ -t 2 ]; then printf '\r\033[K%s' "$*" >&2; fi; }
have() { command -v "$1" >/dev/null; }
# until SECONDS COMMAND...: polls; what does not come is an error of the run, not a result.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ $SECONDS -ge $end ]; then echo "error: no end of waiting for: $*" >&2; return 1; fi
		sleep 0.05
	done
}

# start_agent [OPTIONS]: returns when it records and its first look at its own cost, which itself costs, is over.
# The triggers are the default ones, with a time for `system` that no run reaches, so that no load of ours is a
# stall; without a CPU budget nothing is left out. It leads a process group.
start_agent() {
	setsid build/stallboxd --foreground --socket "$socket" --spool "$T/cap" --fallback "$T/cap2" --bpffs "$bpffs" --cpu-budget 100% \
		--trigger 'kernel:reclaim>500ms' --trigger 'kernel:mmap-lock-wait>1s' --trigger 'kernel:blocked(D)>5s:count=10' \
		--trigger 'system:99%:for=10m' --trigger 'psi:memory:full:400ms/2s' "$@" 2>"$T/log" &
	agent=$!
	until_true 60 grep -q 'triggers armed' "$T/log" && until_true 20 first_window || { cat "$T/log" >&2; exit 1; }
}
first_window() { [ "${BENCH:-full}" = short ] || first_window_over; }
first_window_over() { [ "$(build/stallbox status --json --socket "$socket" | jq .cost.windows)" -gt 0 ]; }
captures() { build/stallbox status --json --socket "$socket" | jq .captures; }
stop_agent() {
	[ -n "$agent" ] || return 0
	kill "$agent"
	wait "$agent"
	agent=''
	build/stallboxd --unload --bpffs "$bpffs"
} 2>/dev/null >&2

# start_switched: the recorder as start_agent has it, whose programs can be taken off the kernel's hooks and put back:
# "on $agent" and "off $agent" go to ${switch[1]}, and ${switch[0]} says when that is done. See tests/helpers/recswitch.c.
start_switched() {
	local ready
	start_agent
	{ kill -KILL "$agent" && wait "$agent"; } 2>/dev/null
	coproc switch { exec build/tests/helpers/recswitch "$bpffs"; }
	switch_pid=$!
	read -r ready <&"${switch[0]}" && [ "$ready" = ready ] || exit 1
	start_agent
}
stop_switched() {
	[ -n "$switch_pid" ] || return 0
	kill "$switch_pid"
	wait "$switch_pid"
	switch_pid=''
	kill -CONT -- "-$agent"
	stop_agent
} 2>/dev/null

# start_side NAME: another tool, or nothing; 1: it is not installed.
perf_attached() { [ "$(find "/proc/$side_pid/fd" -lname '*perf_event*' | wc -l)" -ge "$(nproc)" ]; }
bpf_attached() { [ -n "$(find "/proc/$side_pid/fd" -lname '*bpf_link*' -o -lname '*perf_event*')" ]; }
offcputime_name() { local c; for c in offcputime offcputime-bpfcc; do ! have $c || { echo $c; return; }; done; }
start_side() {
	case $1 in
	base) ;;
	perf)
		have perf || return 1
		perf record -q -a -g --overwrite -e sched:sched_switch -o "$T/perf.data" >/dev/null 2>&1 &
		side_pid=$!
		until_true 30 perf_attached || exit 1
		;;
	offcputime)
		[ -n "$(offcputime_name)" ] || return 1
		"$(offcputime_name)" 600 >/dev/null 2>&1 &
		side_pid=$!
		until_true 60 bpf_attached || exit 1
		;;
	esac
}
stop_side() {
	if [ -n "$side_pid" ]; then
		kill -KILL "$side_pid" # asked to end, it would write what it has
		wait "$side_pid"
		side_pid=''
	fi
} 2>/dev/null

# CPU time of the machine: busy and stolen, in ticks, and all of it.
cpu_times() { awk '/^cpu / {all = 0; for (i = 2; i <= 9; i++) all += $i; print all - $5 - $6, $9, all}' /proc/stat; }

# The servers of the loads: loopback or a socket of their own, below $T, ended by their pid.
servers=()
server() { # PID
	servers+=("$1")
}
stop_servers() {
	local p
	for p in "${servers[@]}"; do kill "$p"; wait "$p"; done
	servers=()
} 2>/dev/null
