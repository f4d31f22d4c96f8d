#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A %system spike: every CPU is in the kernel, in one function.
#
# It proves: the default trigger system fires within a second after its 3 s; the bundle holds the seconds before; the
# report says whose system time it was; top and the flame graph of the time before the trigger agree with what the
# workload knows of its CPU time and of the call that it made; no sample is lost.
. "$(dirname "$0")/lib.sh"

start_default || { fail "agent starts"; finish; }
TO_ITS_END=1 incident system "$INCIDENT" syshog 7 "$(($(nproc) * 2))"
case $? in
0) ;;
77) cannot_run "a %system spike" ;;
*) fail "the default trigger fires"; finish ;;
esac
pid=$(truth ^pid= pid)
echo "# $(tail -n 1 "$TEST_TMP/truth"); $(info .trigger.detail)"
between "it fires above 60 %" "$(info '.trigger.value | round')" 60 100
holds_before "a %system spike"
first=$(events --kind on-cpu --pid "$pid" --no-stacks "$BUNDLE" | jq -s 'map(.ts_ns) | min')
between "it fires 3 s after the first sample of it, ms" $((($(info .trigger.fired_ns) - first) / 1000000)) 2900 4600
is "the report names whose system time it is" "$(fact cpu.system_top)" "stallbox-worklo[$pid]"
between "its samples in the kernel stand for the CPU time that it used there, of 100" \
	"$(events --kind on-cpu --pid "$pid" --no-stacks "$BUNDLE" | jq -s --argjson ms "$(truth ^pid= system_ms)" '[.[] | select(.user | not) | .duration_ns // .gap_ns // 0] | add / 10000 / $ms | round')" 80 120
between "of its samples in the kernel in getrandom(), of 100" "$("$STALLBOX" fold --kind on-cpu --pid "$pid" "$BUNDLE" | awk '/_\[k\]/ { all += $NF } /getrandom|get_random_bytes_user|chacha/ { in_it += $NF } END { print all ? int(100 * in_it / all) : 0 }')" 80 100
lost_nothing "a %system spike" on-cpu
finish
