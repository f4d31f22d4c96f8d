#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A %system spike: every CPU is in the kernel, in one function.
#
# It proves: the default trigger system fires 2.5 to 5 s after the first second of it; the bundle holds the seconds before; the
# report says whose system time it was; top and the flame graph of the time before the trigger agree with what the
# workload knows of its CPU time and of the call that it made; no sample is lost.
. "$(dirname "$0")/lib.sh"

# Four times a second: seconds since boot, and the line of all CPUs.
watch_stat() {
	local up rest line
	while :; do
		read -r up rest </proc/uptime
		read -r rest line </proc/stat
		echo "$up $line"
		sleep 0.25
	done
}
start_default || { fail "agent starts"; finish; }
spawn watch_stat >"$TEST_TMP/stat"
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
# How long had %system been above 60 %, by /proc/stat itself, when it fired? The condition is judged over a second.
since=$(awk -v f="$(info .trigger.fired_ns)" '
	{ sys = $4 + $7 + $8; all = 0; for (i = 2; i <= 9; i++) all += $i; t[NR] = $1 * 1e9; s[NR] = sys; a[NR] = all }
	END { for (i = NR; i > 4; i--) { if (t[i] > f) continue; if (a[i] > a[i-4] && (s[i] - s[i-4]) / (a[i] - a[i-4]) <= 0.6) break; b = t[i-4] } printf "%d\n", (f - b) / 1e6 }' "$TEST_TMP/stat")
between "it fires when %system has been above 60 % for 3 s, ms" "$since" 2500 5000
is "the report names whose system time it is" "$(fact cpu.system_top)" "stallbox-worklo[$pid]"
between "its samples in the kernel stand for the CPU time that it used there, of 100" \
	"$(events --kind on-cpu --pid "$pid" --no-stacks "$BUNDLE" | jq -s --argjson ms "$(truth ^pid= system_ms)" '[.[] | select(.user | not) | .duration_ns // .gap_ns // 0] | add / 10000 / $ms | round')" 80 120
between "of its samples in the kernel in getrandom(), of 100" "$("$STALLBOX" fold --kind on-cpu --pid "$pid" "$BUNDLE" | awk '/_\[k\]/ { all += $NF } /getrandom|get_random_bytes_user|chacha/ { in_it += $NF } END { print all ? int(100 * in_it / all) : 0 }')" 80 100
lost_nothing "a %system spike" on-cpu
finish
