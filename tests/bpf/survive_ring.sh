#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The agent is killed again and again during a storm of triggers. Somebody who reads the living rings beside it
# (tests/helpers/ringcheck) finds every record whole, at its place, its stacks resolvable, each CPU's numbers without a
# gap, and as many of each kind as the kernel counts. KILLS=200 for the long form, SEED=N repeats one. A start
# takes an emulated machine ten seconds.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

KILLS=${KILLS:-$([ -n "${STALLBOX_IN_VM:-}" ] && echo 2 || echo 6)}
SEED=${SEED:-$RANDOM}
RANDOM=$SEED
echo "# SEED=$SEED KILLS=$KILLS"
TRIGGERS=(--cooldown 100ms --post 100ms --escalate trigger --max-use 64M --trigger 'kernel:runq>5ms' --trigger 'kernel:blocked(D)>20ms')
check() { jq -r "$1" "$TEST_TMP/ring.json"; }
unfollow() {
	kill "$FOLLOWER"
	wait "$FOLLOWER"
	echo "# $(cat "$TEST_TMP/ring.json")"
	grep -v following "$TEST_TMP/ring.err" | head -n 10 | sed 's/^/# /'
	is "$1: no record is missing" "$(check .gaps)" 0
	is "$1: none is there twice" "$(check .duplicates)" 0
	is "$1: none has a number that its CPU has not given" "$(check .not_given)" 0
	is "$1: every one is whole and at its place" "$(check '.torn + .seg_first')" 0
	is "$1: every stack is what its hash says, and there" "$(check '.bad_hash + .unresolved')" 0
	is "$1: of every kind as many as the kernel counts" "$(check .miscounted)" 0
	is "$1: the follower kept up" "$(check .overrun)" 0
}

start_agent "${TRIGGERS[@]}" || { fail "agent starts"; finish; }
ok "somebody reads the rings" follow
touch "$TEST_TMP/storm"
storm() {
	while [ -e "$TEST_TMP/storm" ]; do
		"$WORKLOADS/sleeper" 40 3 16 >/dev/null
		"$WORKLOADS/dstall" 2 1 >/dev/null
	done
}
storm &
STORM=$!
spawn "$WORKLOADS/spinner" 86400 6 >/dev/null
SPINNER=$SPAWNED
taken=0 slowest=0
for _ in $(seq "$KILLS"); do
	sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
	children=
	[ $((RANDOM % 2)) = 0 ] || children=$(processes_of "$AGENT")
	# shellcheck disable=SC2086
	kill_agent $children
	began=$(date +%s%N)
	start_agent "${TRIGGERS[@]}" || { fail "the next agent starts"; finish; }
	ms=$((($(date +%s%N) - began) / 1000000))
	[ "$ms" -le "$slowest" ] || slowest=$ms
	log_has 'took over a running recorder' && taken=$((taken + 1))
done
is "each of $KILLS agents took over from the killed one (the slowest after $slowest ms)" "$taken" "$KILLS"
fired() { [ "$(status_of '.captures')" -gt 0 ]; }
ok "triggers go on firing" wait_for 30 fired
rm "$TEST_TMP/storm"
kill "$SPINNER"
wait "$STORM" "$SPINNER" 2>/dev/null
unfollow "over $KILLS kills"
between "records were read" "$(check .records)" 1000 1000000000
between "banks were flipped" "$(check .generation)" 2 1000000
stop_agent
whole=0 n=0
for b in $(bundles); do
	n=$((n + 1))
	"$STALLBOX" info "$b" >/dev/null 2>&1 && whole=$((whole + 1))
done
between "bundles were written" "$n" 1 100000
is "every one can be read" "$whole" "$n"
finish
