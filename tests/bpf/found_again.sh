#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Stacks of blocked threads that are found again without a walk are what a walk gives: a build of its own walks each of them
# all the same and counts what differs.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

[ -z "${STALLBOX_IN_VM:-}" ] || { skip "found again as walked" "an emulated machine builds for minutes"; finish; }
if ! make -s -C "$ROOT" -j"$(nproc)" B=build/checked CHECK_AGAIN=yes build/checked/stallboxd >"$TEST_TMP/make" 2>&1; then
	fail "a build that checks" "$(tail -n 3 "$TEST_TMP/make")"
	finish
fi
STALLBOXD=$ROOT/build/checked/stallboxd
start_agent --post 100ms || { fail "agent starts"; finish; }
if [ "$(uname -m)" != x86_64 ]; then
	skip "found again as walked" "only x86 keeps the stack pointer of a thread that does not run where this looks for it"
	finish
fi
# of NAME KERNEL USER COMMAND...: blocks of all kinds, until so many stacks were found again. How many blocks of the same
# messages are long enough to be recorded is the scheduler's.
of() {
	local name=$1 kernel=$2 user=$3 kernel_before user_before kernel_again user_again deadline=$((SECONDS + 60))
	shift 3
	kernel_before=$(status_of .unwind.kernel_again)
	user_before=$(status_of .unwind.again)
	while :; do
		"$@" >"$TEST_TMP/out" 2>&1 || { fail "$name runs" "$(tail -n 2 "$TEST_TMP/out")"; return; }
		kernel_again=$(($(status_of .unwind.kernel_again) - kernel_before))
		user_again=$(($(status_of .unwind.again) - user_before))
		[ "$kernel_again" -lt "$kernel" ] || [ "$user_again" -lt "$user" ] || break
		[ "$SECONDS" -lt "$deadline" ] || break
	done
	between "$name: kernel stacks are found again" "$kernel_again" "$kernel" 100000000
	[ "$user" -eq 0 ] || between "$name: user stacks are found again" "$user_again" "$user" 100000000
}
of "400 threads in nanosleep()" 1000 1000 "$WORKLOADS/sleeper" 200 11 400
of "sockets, and frame pointers" 10000 10000 perf bench sched messaging -g 10 -l 1000
of "pipes, and waits for children" 100 0 bash -c 'for i in $(seq 200); do sleep 0.02 | cat; done'
of "reclaim and waits for pages" 20 0 "$WORKLOADS/reclaim_storm" --limit 256 --file-threads 32 --anon-threads 8 --seconds 5 --dir "${SCRATCH:-/var/tmp}"
is "each kernel stack is what a walk gives" "$(status_of .unwind.kernel_wrong)" 0
is "each user stack is what a walk gives" "$(status_of .unwind.wrong)" 0
stop_agent
finish
