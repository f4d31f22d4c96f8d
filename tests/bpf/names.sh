#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Captures that follow each other within a second are files of their own, each named after its own time.
# Names that take their time do not pile up processes.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

start_agent --post 0s --cooldown 0s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
started=$EPOCHREALTIME
n=0
for i in 1 2 3 4 5 6 7; do
	if freeze "number $i"; then n=$((n + 1)); fi
done
echo "# 7 captures in ${started} to $EPOCHREALTIME"
is "7 freezes are answered" "$n" 7
is "and are 7 bundles" "$(bundle_count)" 7
is "with 7 reasons" "$(for b in $(bundles); do "$STALLBOX" info --json "$b" | jq -r .trigger.detail; done | sort | tr '\n' ,)" \
	"$(printf 'number %s,' 1 2 3 4 5 6 7)"
is "their names are in order" "$(bundles | xargs -n 1 basename)" "$(find "$SPOOL" -name '*.zst' -printf '%T@ %f\n' | sort -n | cut -d' ' -f2)"

# For a minute's worth of names, were they to the second.
ROW=90
[ -z "${STALLBOX_IN_VM:-}" ] || ROW=20
recording() { [ "$(status_of .state)" = recording ]; }
: >"$TEST_TMP/row"
for ((i = 0; i < ROW; i++)); do
	wait_for 30 recording
	"$STALLBOX" freeze --socket "$SOCKET" -r "row $i" >>"$TEST_TMP/row" 2>&1
done
is "$ROW freezes in a row have $ROW names" "$(grep '^path=' "$TEST_TMP/row" | sort -u | wc -l)" "$ROW"
all_there() { [ "$(bundle_count)" = $((7 + ROW)) ] && [ "$(grep -c '^complete:' "$AGENT_LOG")" = $((7 + ROW)) ]; }
ok "and are as many bundles" wait_for 120 all_there
last=$(bundles | tail -n 1 | grep -oE '[0-9]{8}T[0-9]+Z')
is "none is named after a time to come" "$(printf '%s\n' "$last" "$(date -u +%Y%m%dT%H%M%SZ)" | sort | head -n 1)" "$last"

# While /proc/PID/maps of a process cannot be read every bundle's names take half a second.
"$WORKLOADS/fuse_fault" write 1 5 >"$TEST_TMP/fuse" 2>&1 &
fuse=$!
TEST_PIDS+=("$fuse")
stalled() { ! kill -0 "$fuse" 2>/dev/null || [ "$(cat /proc/"$fuse"/task/*/stat 2>/dev/null | grep -c ') D ')" -ge 16 ]; }
wait_for 30 stalled
if ! kill -0 "$fuse" 2>/dev/null; then
	skip "names do not pile up" "$(tail -n 1 "$TEST_TMP/fuse")"
	finish
fi
forget() { find "$SPOOL" -name '*.zst' -delete; }
forget
while kill -0 "$fuse" 2>/dev/null; do "$STALLBOX" freeze --socket "$SOCKET" -r fast >/dev/null || break; done
wait "$fuse"
all_whole() { for b in $(bundles); do complete "$b" || return 1; done; }
ok "all bundles are whole" wait_for 60 all_whole
without=$(for b in $(bundles); do "$STALLBOX" info --json "$b" | jq '[.marks[] | select(.kind == "no-names")] | length'; done | awk '{n += $1} END {print n}')
between "some of them go without names, because two others' are looked up, and say so" "$without" 1 $(($(bundle_count) - 2))
# Where the kernel's own text is, every address has a name.
read -r text etext < <(awk '$3 == "_text" { a = $1 } $3 == "_etext" { b = $1 } END { print a, b }' /proc/kallsyms)
own_text() { # named and nameless addresses of kernel stacks, in the bundles without names
	for b in $(bundles); do
		"$STALLBOX" info --json "$b" | jq -e '[.marks[] | select(.kind == "no-names")] | length > 0' >/dev/null || continue
		events "$b" | jq -r '.kstack[]?'
		"$STALLBOX" fold --kind blocked "$b" | tr ';' '\n' | sed -n 's/_\[k\]$//p'
	done | awk -v from="0x$text" -v to="0x$etext" '/^0x/ { nameless += length($0) == 18 && $0 >= from && $0 < to; next } { named++ } END { print named + 0, nameless + 0 }'
}
read -r named nameless < <(own_text)
between "they have the names of the kernel's own text" "$named" 100 1000000000
is "all of them" "$nameless" 0
nameless=$(for b in $(bundles); do
	"$STALLBOX" info --json "$b" | jq -e '[.marks[] | select(.kind == "no-names")] | length > 0' >/dev/null && echo "$b"
done | head -n 1)
if [ -n "$nameless" ] && [ "$(status_of '.missing | index("user stacks by .eh_frame") != null')" != true ]; then
	# They still know who had what mapped.
	is "nothing is named in such a one" "$("$STALLBOX" fold --kind blocked --comm fuse_fault "$nameless" | grep -c convoy_thread)" 0
	ok "names can be added later" "$STALLBOX" symbolize "$nameless"
	between "and are there" "$("$STALLBOX" fold --kind blocked --comm fuse_fault "$nameless" | awk '/convoy_thread.*_\[k\]/ {n += $NF} END {print n + 0}')" 16 1000
fi
ok "later ones have theirs" freeze
is "nothing is missing in it" "$("$STALLBOX" info --json "$BUNDLE" | jq '[.marks[] | select(.kind == "no-names")] | length')" 0
finish
