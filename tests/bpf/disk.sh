#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Disks fail while bundles are written: full, read-only, gone, frozen, one or both of the directories. Nothing is lost but
# what the limits say, all of it is counted, and the trigger does not feel it. LONG=1: a hundred triggers with a frozen
# disk and a hundred without, in turns, for their times.
[ -z "${SCRATCH:-}" ] || TMPDIR=/tmp # the images are made there
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

A=$TEST_TMP/first B=$TEST_TMP/second
mkdir -p "$A" "$B"
# Two hundred bundles of a busy host are more than two small disks take.
disk() { truncate -s "$([ -n "${LONG:-}" ] && echo 1G || echo 256M)" "$1.img" && mkfs.ext4 -q -m 0 "$1.img" && mount -o loop "$1.img" "$1"; }
thaw() { fsfreeze -u "$1" 2>/dev/null; }
test_release() {
	thaw "$A"
	thaw "$B"
}
extra_cleanup() {
	stop_agent
	umount "$A" "$B" 2>/dev/null
}
if ! { disk "$A" && disk "$B"; } >"$TEST_TMP/can" 2>&1; then
	umount "$A" 2>/dev/null
	echo "1..0 # SKIP no loop mount here: $(tail -n 1 "$TEST_TMP/can")"
	exit 77
fi
SPOOL=$A/captures FALLBACK=$B/captures
# Nothing is deleted to keep space free: what is missing is lost.
QUIET=(--config "$TEST_TMP/conf" --fallback "$FALLBACK" --keep-free 0M --cooldown 0s --trigger 'kernel:reclaim>600s')
window_is() { printf '[Recorder]\nPost=%s\n' "$1" >"$TEST_TMP/conf"; }
# window TIME: after the trigger, from here on
window() {
	local n
	n=$(status_of .config.reloads)
	window_is "$1"
	kill -HUP "$AGENT"
	reloaded() { [ "$(status_of .config.reloads)" -gt "$n" ]; }
	ok "the window is $1 long" wait_for 30 reloaded
}
window_is 200ms
freeze() { # RC, BUNDLE
	timeout 150 "$STALLBOX" freeze --socket "$SOCKET" --wait -r disk >"$TEST_TMP/answer" 2>&1
	RC=$?
	BUNDLE=$(sed -n 's/^path=//p' "$TEST_TMP/answer")
	[ $RC = 0 ] && complete "$BUNDLE"
}
is_in() { is "$1" "$(dirname "$BUNDLE")" "$2"; }
files() { find "$1" -maxdepth 1 -type f -printf '%f\n' 2>/dev/null | sort; }
storage() { status_of ".storage$1"; }
storage_is() { [ "$(storage "$1")" = "$2" ]; }
fill() {
	fallocate -l "$(df --output=avail -B1 "$1" | tail -n 1)" "$1/filler" 2>/dev/null || true
	dd if=/dev/zero of="$1/filler" bs=64K oflag=append conv=notrunc 2>/dev/null
	sync -f "$1"
}
both() { cat <(files "$SPOOL") <(files "$FALLBACK") | sort; }
all_complete() { local b; for b in "$SPOOL"/*.zst "$FALLBACK"/*.zst; do [ ! -e "$b" ] || complete "$b" || return 1; done; }

# ---- what is there at start ----
mkdir -p "$SPOOL"
head -c 30000 /dev/urandom >"$SPOOL/noise.stall.pb.zst"
: >"$SPOOL/empty.stall.pb.zst"
echo half >"$SPOOL/.tmp-1-x.stall.pb.zst"
start_agent "${QUIET[@]}" || { fail "agent starts"; finish; }
ok "files that are no bundles go to quarantine" wait_for 30 storage_is .quarantined 2
is "there they are" "$(files "$SPOOL/quarantine" | tr '\n' ' ')" "empty.stall.pb.zst noise.stall.pb.zst "
is "temporaries are swept" "$(files "$SPOOL")" ""
ok "a freeze" freeze
is_in "is in the first directory" "$SPOOL"
like "its name" "$(basename "$BUNDLE")" '^[A-Za-z0-9._-]+-20[0-9]{6}T[0-9]{6}Z-manual\.stall\.pb\.zst$'
is "its mode" "$(stat -c %a "$BUNDLE")" 640
before=$(files "$SPOOL")

# ---- full ----
fill "$A"
ok "first full: a freeze" freeze
is_in "is in the second" "$FALLBACK"
is "the first has nothing more" "$(files "$SPOOL")" "$before"
is "and no failure is counted" "$(status_of .failures)" 0
is "but the attempt" "$([ "$(storage '.directories[0].failed')" -gt 0 ] && storage '.directories[0].error')" 28
fill "$B"
freeze
is "both full: who waits is told" "$RC $(grep -c 'held in memory and tried again' "$TEST_TMP/answer")" "1 1"
is "it is held" "$(storage .held)" 1
retried() { [ "$(storage .retries)" -ge 2 ]; }
ok "and not given up" wait_for 30 retried
names=$(both)
rm "$A/filler"
one_more() { storage_is .held 0 && [ "$(comm -13 <(echo "$names") <(both) | grep -c zst)" = 1 ]; }
ok "room again: it is stored" wait_for 60 one_more
is "in the first directory" "$(comm -13 <(echo "$names") <(both))" "$(comm -13 <(echo "$names") <(files "$SPOOL"))"
ok "every bundle is whole" wait_for 30 all_complete
fill "$A"
n=$(both | grep -c zst)
captures=$(status_of .captures)
for i in 1 2 3 4 5 6; do freeze; done
six() { [ "$(status_of .captures)" = $((captures + 6)) ] && [ "$(storage '.held + .storage.dropped')" = 6 ]; }
ok "six more than disks take" wait_for 60 six
is "four are held, two are lost and counted" "$(storage .held) $(storage .dropped) $(status_of .failures)" "4 2 2"
is "and said" "$(grep -c 'bundles are held in memory: .* is lost' "$AGENT_LOG")" 2
rm "$A/filler" "$B/filler"
ok "room again: all four are stored" wait_for 60 storage_is .held 0
four_more() { [ "$(both | grep -c zst)" = $((n + 4)) ] && all_complete; }
ok "whole" wait_for 30 four_more

# ---- read-only, in the middle of a bundle ----
: >"$AGENT_LOG"
window 1s # in it the disk becomes read-only
"$STALLBOX" freeze --socket "$SOCKET" -r ro >/dev/null
ok "the first part is durable" wait_for 30 log_has "^durable: $SPOOL"
mount -o remount,ro "$A"
if log_has '^complete:'; then
	skip "read-only in the middle of a bundle" "this machine was too slow to be within the post window"
else
	ok "read-only: it is completed" wait_for 30 log_has '^complete:'
	BUNDLE=$(sed -n 's/^complete: \([^,]*\),.*/\1/p' "$AGENT_LOG")
	is_in "in the second directory" "$FALLBACK"
	ok "whole" complete "$BUNDLE"
fi
mount -o remount,rw "$A"
window 200ms
ok "writable again: a freeze" freeze
is_in "is in the first" "$SPOOL"
one_each() { [ -z "$(both | uniq -d)" ] && all_complete; }
ok "the half that could not be removed then is removed now" wait_for 30 one_each

# ---- removed ----
umount -l "$A"
ok "unmounted: a freeze" freeze
is_in "is in the second" "$FALLBACK"
is "nothing is made where it was mounted" "$(files "$A")$(ls "$A")" ""
mount -o loop "$A.img" "$A"
ok "mounted again: a freeze" freeze
is_in "is in the first" "$SPOOL"

# ---- frozen: one (see frozen_spool for the rest), then both ----
fsfreeze -f "$A"
fsfreeze -f "$B"
freeze
is "both frozen: who waits is told" "$RC $(grep -c 'held in memory' "$TEST_TMP/answer")" "1 1"
like "the agent records on" "$(status_of .state)" 'recording|cooldown'
is "in time, it is said, was neither" "$(storage '.directories | map(.timeouts > 0) | all')" true
thaw "$A"
thaw "$B"
ok "thawed: it is stored" wait_for 60 storage_is .held 0
ok "once, and whole" wait_for 30 one_each

# ---- triggers do not feel it ----
seals() { # N: of freezes that nobody waits for, ns
	local i
	for ((i = 0; i < $1; i++)); do
		ready() { [ "$(status_of .state)" = cooldown ] || [ "$(status_of .state)" = recording ]; }
		wait_for 60 ready
		"$STALLBOX" freeze --socket "$SOCKET" -r latency >/dev/null
		status_of .last.seal_delay_ns
	done
}
at_percent() { sort -n "$2" | awk -v p="$1" '{ v[NR] = $1 } END { i = int((NR * p + 99) / 100); print v[i < 1 ? 1 : i] }'; }
rounds=3 each=2
[ -z "${LONG:-}" ] || rounds=20 each=5
: >"$TEST_TMP/well"
: >"$TEST_TMP/ill"
for ((r = 0; r < rounds; r++)); do
	seals $each >>"$TEST_TMP/well"
	fsfreeze -f "$A"
	seals $each >>"$TEST_TMP/ill"
	thaw "$A"
done
echo "# trigger to seal, us: disk well: median $(($(at_percent 50 "$TEST_TMP/well") / 1000)), 99 % $(($(at_percent 99 "$TEST_TMP/well") / 1000)); frozen: median $(($(at_percent 50 "$TEST_TMP/ill") / 1000)), 99 % $(($(at_percent 99 "$TEST_TMP/ill") / 1000)) ($(wc -l <"$TEST_TMP/ill") each)"
is "every trigger has its time" "$(cat "$TEST_TMP/well" "$TEST_TMP/ill" | grep -cE '^[1-9][0-9]*$')" $((2 * rounds * each))
ok "the median time from trigger to seal is what it is with a disk that is well" \
	[ "$(at_percent 50 "$TEST_TMP/ill")" -le $(($(at_percent 50 "$TEST_TMP/well") * 4 + 1000000)) ]
# What an agent that was woken may take at most, whatever the disk does.
[ -z "${LONG:-}" ] || ok "99 of 100 are sealed in 5 ms, too" [ "$(at_percent 99 "$TEST_TMP/ill")" -le 5000000 ]
settled() { storage_is .held 0 && one_each; }
ok "all of these bundles are somewhere, once and whole" wait_for 90 settled
is "as many as triggers" "$(both | grep -c zst)" "$(($(status_of .captures) - $(storage .dropped)))"

# ---- limits, and a start while the disk is frozen ----
stop_agent
cp "$(newest_bundle)" "$TEST_TMP/old"
rm -f "$SPOOL"/*.zst "$FALLBACK"/*.zst
max_use=$((6 * $(stat -c %s "$TEST_TMP/old") + (1 << 20))) # a busy host has large bundles
copy_old() {
	local i
	for i in 1 2 3 4 5 6 7 8 9; do
		cp "$TEST_TMP/old" "$SPOOL/old-$i.stall.pb.zst" && touch -d "2020-01-0$i" "$SPOOL/old-$i.stall.pb.zst" || return
	done
}
ok "nine older bundles fit on the disk" copy_old
fsfreeze -f "$A"
start_agent "${QUIET[@]}" --max-use "$((max_use >> 10))K" || { fail "an agent starts while its disk is frozen"; finish; }
ok "an agent starts while its disk is frozen, and says so" log_has "cannot write to '$SPOOL' now"
ok "and freezes" freeze
is_in "into the second directory" "$FALLBACK"
thaw "$A"
within() { [ "$(cat "$SPOOL"/*.zst "$FALLBACK"/*.zst | wc -c)" -le "$max_use" ]; }
ok "thawed: a freeze" freeze
is_in "is in the first directory" "$SPOOL"
ok "MaxUse is kept" wait_for 30 within
is "the newest is there" "$([ -s "$BUNDLE" ] && echo yes)" yes
left=$(files "$SPOOL" | grep '^old-')
between "the oldest are not, others are" "$(grep -c . <<<"$left")" 1 8
is "none went before an older one" "$left" "$(for i in 1 2 3 4 5 6 7 8 9; do echo "old-$i.stall.pb.zst"; done | tail -n "$(grep -c . <<<"$left")")"
ok "what was deleted is counted" [ "$(storage .deleted.max_use)" -ge 1 ]
finish
