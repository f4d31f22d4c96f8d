#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A file system that stops: twelve threads write to it and stand in D state. The CPUs are idle, and so is every pressure file.
#
# It proves: the default trigger blocked fires within 60 ms of the moment at which ten threads have been in D state for 5 s;
# the report names the threads, how many there are and what they stand in; the bundle holds the seconds before, and when
# each of them came to stand and for how long, as the workload knows; no block of 10 ms or more is lost.
. "$(dirname "$0")/lib.sh"

late_ms=10
[ -z "${STALLBOX_IN_VM:-}" ] || late_ms=200
start_default || { fail "agent starts"; finish; }
TO_ITS_END=1 incident blocked "$INCIDENT" frozen-fs 12 7
case $? in
0) ;;
77) cannot_run "threads in D state" ;;
*) fail "the default trigger fires"; finish ;;
esac
line=$(grep begin_ns= "$TEST_TMP/truth")
tids=$(grep -oE 'ready tids=[0-9,]+' "$TEST_TMP/truth" | cut -d= -f2)
fired=$(info .trigger.fired_ns)
is "it fires at ten threads or more" "$(info '.trigger.value >= 10 and .trigger.value <= 12')" true
between "it fires after 5 s, ms since the file system was frozen" $(((fired - $(field "$line" begin_ns)) / 1000000)) 5000 $((5000 + late_ms + 50))
holds_before "a frozen file system"
like "the sentence: twelve threads in D state in storage code, where they stand" "$(cause_of storage-dstate)" \
	"1[2-9] threads were in D state in storage code at the freeze, one for 5\\.[0-9] s; 12 of them are named stallbox-worklo"
is "it is the first cause" "$(jq -r '.causes[0].rule' <<<"$REPORT")" storage-dstate
shot=$("$STALLBOX" fold --kind blocked --state D --comm stallbox-worklo "$BUNDLE")
is "the stackshot has all twelve, in a write" "$(awk '/vfs_write|ksys_write/ { n += $NF } END { print n + 0 }' <<<"$shot")" 12
events --kind off-cpu --comm stallbox-worklo --no-stacks "$BUNDLE" | jq -r 'select(.state == "D" and .duration_ns > 6000000000) | "\(.tid) \(.duration_ns / 1000000 | round)"' >"$TEST_TMP/blocks"
is "each has its block in the bundle, when the file system goes on" "$(cut -d' ' -f1 "$TEST_TMP/blocks" | sort -n | paste -sd,)" "$(tr , '\n' <<<"$tids" | sort -n | paste -sd,)"
between "the shortest of them, ms off the workload's" $(($(cut -d' ' -f2 "$TEST_TMP/blocks" | sort -n | head -n 1) - $(field "$line" shortest_ms))) -$late_ms $late_ms
between "the longest of them, ms off the workload's" $(($(cut -d' ' -f2 "$TEST_TMP/blocks" | sort -n | tail -n 1) - $(field "$line" longest_ms))) -$late_ms $late_ms
lost_nothing "a frozen file system" lock-wait
finish
