#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The story of ps that hangs: in a memory cgroup at its limit a thread reclaims in a page fault with mmap_lock held, gets
# hardly any CPU to end it, and everybody who needs that lock waits.
#
# It proves: the default trigger reclaim-age fires within 10 ms of its 500 ms, or mmap-lock-wait of its second (memory-pressure may be
# met before; that bundle tells of the thread by what is merged into it, and the next one counts); the report says that thread T holds
# mmap_lock in a page fault, reclaiming in memcg M, N pages scanned and R reclaimed so far, for D seconds; T was by its own
# clock in one page access all that time, and N and R are what the kernel's own event log (tracefs) counts for T; blame
# names T with its stack; the bundle holds the seconds before; no wait for a lock is lost.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../tracefs.sh"

# Beside other work the kernel's log overflows, and then there is no truth to compare with.
if [ -z "${LONG:-}" ]; then
	skip "a reclaim that holds mmap_lock" "the long form, on a host with nothing else to do: make check-incidents LONG=1"
	finish
fi
late_ms=10
[ -z "${STALLBOX_IN_VM:-}" ] || late_ms=200
if ! open_log 32768; then
	skip "a reclaim that holds mmap_lock" "tracefs gives no instance of its own"
	finish
fi
logged=(vmscan/mm_vmscan_memcg_reclaim_begin vmscan/mm_vmscan_memcg_reclaim_end vmscan/mm_vmscan_lru_shrink_inactive)
log_events "${logged[@]}"
start_default || { fail "agent starts"; finish; }
# Until the bundle is whole a log of so much would overwrite what led to the stackshot, which is taken some ms after that line.
stop_at_freeze() { wait_for 400 log_has "^freeze: trigger '(reclaim-age|mmap-lock-wait)'" && sleep 0.2 && stop_log; }
spawn stop_at_freeze

# The host's own pressure may be met before any one reclaim or wait is old enough. Then that is the trigger, its stackshot is
# of a time at which nobody was stuck yet, and who is stuck later is told by what the later triggers saw, and by the records.
pressure_tells() {
	local mark who ms tid at span=fault record=reclaim least=500
	between "memory-pressure: the value at which it fired, ms within 2 s" "$(info '.trigger.value | floor')" 400 $((2000 + late_ms))
	holds_before "memory pressure"
	mark=$(info '[.marks[] | select(.kind == "merged" and (.text | test("^trigger .(reclaim-age|mmap-lock-wait).")))] | first | "\(.ts_ns) \(.text)"')
	at=${mark%% *}
	read -r who ms tid < <(sed -nE "s/.*trigger '([a-z-]+)' fired again: value ([0-9]+)[0-9.]* ms; tid ([0-9]+) .*/\1 \2 \3/p" <<<"$mark")
	[ "$who" != mmap-lock-wait ] || span=wait record=lock-wait least=1000
	between "memory pressure: a reclaim or a wait is met meanwhile; its age, ms" "$ms" $least 10000
	is "memory pressure: the thread that it names was in one page access, or wait, all that time" "$(awk -v what=$span -v t="$tid" -v at="$at" -v ms="$ms" '
		{ split($2, x, "="); split($3, b, "="); split($4, e, "=") }
		$1 == what && x[2] == t && b[2] <= at - (ms - 100) * 1e6 && e[2] >= at - 1e6 { n++ }
		END { print n + 0 }' "$TEST_TMP/truth")" 1
	between "memory pressure: its record is in the bundle, ms" "$(events --kind $record --tid "${tid:-0}" --no-stacks "$BUNDLE" |
		jq -s --argjson at "$at" '[.[] | select(.ts_ns >= $at - 1000000 and .ts_ns - .duration_ns < $at) | .duration_ns / 1000000 | floor] | max // 0')" "${ms:-$least}" 60000
	is "memory pressure: the queue is a cause that is named" "$(jq -r '[.causes[].rule] | index("mmap-lock-stall") != null' <<<"$REPORT")" true
	lost_nothing "memory pressure" lock-wait
}
# The storm is ended when the bundle is whole; until then its cgroup has to be there, to be named.
recording() { [ "$(status_of .state)" = recording ]; }
for ((storms = 1; ; storms++)); do
	incident 'reclaim-age|mmap-lock-wait|memory-pressure' "$INCIDENT" reclaim_storm --limit 128 --file-threads 6 --anon-threads 2 --writers 16 --starved 250 --seconds 60 --dir "${SCRATCH:-/var/tmp}"
	rc=$?
	stop_log
	case $rc in
	0) ;;
	77) cannot_run "a reclaim that holds mmap_lock" ;;
	*) fail "the default trigger fires"; finish ;;
	esac
	[ "$(info .trigger.name)" = memory-pressure ] && [ $storms -lt 3 ] || break
	pressure_tells
	# The next bundle there is after the cooldown.
	bundles | xargs -r rm -f
	wait_for 90 recording
	log_events "${logged[@]}"
done
# Whichever is met first: the thread that reclaims may have taken the lock half a second before it began to.
case $(info .trigger.name) in
reclaim-age) fired_in "reclaim-age" 500 $((500 + late_ms)) ;;
mmap-lock-wait) fired_in "mmap-lock-wait" 1000 $((1000 + late_ms)) ;;
*) fail "in one storm of three a reclaim or a wait is old before memory-pressure is met"; finish ;;
esac
holds_before "reclaim with mmap_lock held"

chain=$(chain_of "$BUNDLE" stallbox-worklo)
tid=$(jq '.chain[-1].tid' <<<"$chain") pid=$(truth ^pid= pid)
shot=$(info .stackshot_begin_ns)
echo "# $(jq -c '[.waiters | length] + [.chain[] | .found, .proven, .tid]' <<<"$chain"); the trigger's: $(info .trigger.target_tid)"
is "the chain for mmap_lock ends at a thread that was in one page access all the time" \
	"$(awk -v t="$tid" -v f="$shot" '{ split($2, x, "="); split($3, b, "="); split($4, e, "=") } $1 == "fault" && x[2] == t && b[2] <= f - 400e6 && e[2] >= f { n++ } END { print n + 0 }' "$TEST_TMP/truth")" 1
like "blame shows its stack" "$("$STALLBOX" blame --stacks "$BUNDLE")" 'shrink_[a-z_]+_\[k\].*try_to_free_mem_cgroup_pages_\[k\].*handle_mm_fault'
between "threads that wait for it" "$(fact mmap.freeze_waiters)" 10 30

# What the kernel logged of T from the begin of the span that it was in to the stackshot.
awk -v t="-$tid" -v f="$shot" '
	function value(name) { return match($0, "[ ]" name "=[-0-9]+") ? substr($0, RSTART + length(name) + 2, RLENGTH - length(name) - 2) + 0 : 0 }
	substr($1, length($1) - length(t) + 1) != t { next }
	{ for (i = 1; i <= NF; i++) if ($i ~ /^\[[0-9]+\]$/) at = $(i + 2) * 1e9 }
	at > f { exit }
	/_reclaim_begin:/ { s = r = 0; begin = at; open = 1 }
	/_reclaim_end:/ { open = 0 }
	/lru_shrink_inactive:/ { s += value("nr_scanned"); r += value("nr_reclaimed") }
	END { printf "%d %d %.0f %d\n", s, r, begin, open }' "$LOG/trace" >"$TEST_TMP/logged"
read -r scanned reclaimed begin open <"$TEST_TMP/logged"
is "tracefs lost nothing since T began to" "$(log_lost "$begin")" 0
is "T was in reclaim by the kernel's log" "$open" 1
like "the sentence: T is in a page fault, reclaiming in memcg M for D, N scanned, R reclaimed" "$(cause_of mmap-lock-stall)" \
	"stallbox-worklo\\[$pid\\] tid $tid is in a page fault, reclaiming in cgroup [^ ]*stallbox-storm\\.$pid for [0-9.]+ m?s: $scanned pages scanned, $reclaimed reclaimed so far"
between "D, ms off the kernel's log" "$(($(jq '.facts["mmap.chain_end_reclaim"] * 1000 | round' <<<"$REPORT") - (shot - begin) / 1000000))" -2 2
is "what is met later is told with a value past its threshold" "$(info '[.marks[] | select(.kind == "merged") | .text | capture("^trigger .(?<name>reclaim-age|mmap-lock-wait). fired again: value (?<ms>[0-9.e+]+) ms") | select((.ms | tonumber) < (if .name == "reclaim-age" then 500 else 1000 end))] | length')" 0
is "the queue is a cause that is named" "$(jq -r '[.causes[].rule] | index("mmap-lock-stall") != null' <<<"$REPORT")" true

lost_nothing "reclaim with mmap_lock held" lock-wait
finish
