#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# /-/ready of the gateway against real directories: would a stall of this minute become a bundle that can be downloaded?
# Not where each directory is read-only or full, be it known by trying or by looking, nor where every trigger is a dry run.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

A=$TEST_TMP/first B=$TEST_TMP/second
mkdir -p "$A" "$B"
extra_cleanup() {
	stop_agent
	umount "$A" "$B" "$A" 2>/dev/null # what was mounted over another one, then that
}
if ! { mount -t tmpfs -o size=16M none "$A" && mount -t tmpfs -o size=16M none "$B"; } 2>"$TEST_TMP/can"; then
	umount "$A" 2>/dev/null
	echo "1..0 # SKIP no tmpfs can be mounted here: $(tail -n 1 "$TEST_TMP/can")"
	exit 77
fi
SPOOL=$A/captures FALLBACK=$B/captures
OPTIONS=(--fallback "$FALLBACK" --keep-free 0M --post 100ms --cooldown 0s)
remount() { mount -o "remount,$1" "$A" && mount -o "remount,$1" "$B"; }
fill() { dd if=/dev/zero of="$1/filler" bs=4K 2>/dev/null || [ "$(df --output=avail "$1" | tail -n 1)" = 0 ]; }
ready() { curl -s --max-time 30 "http://127.0.0.1:$PORT/-/ready"; }
says() { [ "$(ready)" = "$1" ]; }
held() { status_of .storage.held; }
held_is() { [ "$(held)" = "$1" ]; }

start_agent "${OPTIONS[@]}" --trigger 'kernel:reclaim>600s' --trigger 'system:99%:for=600s:dry-run:name=dry' ||
	{ fail "agent starts"; finish; }
gateway() { # COMMAND...: that runs it
	read -r PORT <<<"$(free_ports 1)"
	spawn "$@" "$BUILD/stallbox-gateway" --config /dev/null --listen "127.0.0.1:$PORT" --spool "$SPOOL" --fallback "$FALLBACK" \
		--socket "$SOCKET" --renderer "$STALLBOX" 2>"$TEST_TMP/gateway.log"
	wait_for 20 grep -q 'listening on' "$TEST_TMP/gateway.log" || { fail "the gateway starts" "$(cat "$TEST_TMP/gateway.log")"; finish; }
}
# What it may not write to is no reason to think that nobody may.
cat >"$TEST_TMP/reading" <<-'SH'
	#!/bin/sh -e
	mount --make-rprivate /
	for dir in "$1" "$2"; do
		mount --bind "$dir" "$dir"
		mount -o remount,bind,ro "$dir"
	done
	shift 2
	exec "$@"
SH
chmod +x "$TEST_TMP/reading"
gateway unshare --mount "$TEST_TMP/reading" "$A" "$B"
ok "well: ready, though the gateway itself may only read" wait_for 30 says ready
is "of two triggers one is a dry run" "$("$STALLBOX" triggers --json --socket "$SOCKET" | jq -c '[.triggers[].settings.dry_run]')" "[false,true]"

# ---- seen before anything is tried ----
none="not ready: no directory takes a bundle"
mount -o remount,ro "$A"
fill "$B"
ok "one read-only, one full: not ready" wait_for 30 says "$none: Read-only file system; 0 are held in memory"
rm "$B/filler"
ok "one read-only: ready, there is the other one" wait_for 30 says ready
remount ro
ok "both read-only: not ready" wait_for 30 says "$none: Read-only file system; 0 are held in memory"
remount rw
ok "both writable again: ready" wait_for 30 says ready

# ---- known by trying ----
fill "$A"
fill "$B"
"$STALLBOX" freeze --socket "$SOCKET" -r full >/dev/null
ok "both full: a bundle is held" wait_for 30 held_is 1
ok "both full: not ready" wait_for 30 says "$none: No space left on device; 1 are held in memory"
is "which is no success" "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$PORT/-/ready")" 503
# There is room for something, and not for a bundle: only who has tried knows.
truncate -s -8K "$A/filler"
truncate -s -8K "$B/filler"
up() { cut -d. -f1 /proc/uptime; }
retries=$(status_of .storage.retries) since=$(up)
tried() { [ "$(status_of .storage.retries)" -gt "$retries" ]; }
ok "two blocks are free: tried again" wait_for 60 tried
is "and held" "$(held)" 1
seen() { curl -s "http://127.0.0.1:$PORT/metrics" | grep -q "^stallbox_storage_free_bytes{directory=\"$SPOOL\"} 8192"; }
ok "the gateway sees them" wait_for 30 seen
is "and is not ready" "$(ready)" "$none: No space left on device; 1 are held in memory"
between "the agent says when it tried, seconds" "$(status_of '[.storage.directories[].tried_ns] | min / 1e9 | floor')" "$since" "$(up)"
rm "$A/filler" "$B/filler"
ok "room again: stored" wait_for 60 held_is 0
ok "room again: ready" wait_for 30 says ready
stop_agent

# ---- file systems with ways of their own ----
agent_on() { # no other directory takes bundles
	start_agent --fallback '' --keep-free 0M --post 100ms --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
}
gateway env # it sees what is mounted from now on
mount -t ramfs none "$A"
agent_on
ok "one that tells no size: ready" wait_for 30 says ready
stop_agent
umount "$A"
if { { command -v mkfs.btrfs || { echo "mkfs.btrfs is not installed" && false; }; } && truncate -s 128M "$TEST_TMP/img" && mkfs.btrfs -q "$TEST_TMP/img" && mount -o loop "$TEST_TMP/img" "$A"; } >"$TEST_TMP/can" 2>&1; then
	agent_on
	ok "btrfs: ready" wait_for 30 says ready
	mount -o remount,ro "$A"
	ok "btrfs, read-only: not ready" wait_for 30 says "$none: Read-only file system; 0 are held in memory"
	mount -o remount,rw "$A"
	stop_agent
	umount "$A"
else
	skip "btrfs, read-only: not ready" "no btrfs can be made and mounted here: $(tail -n 1 "$TEST_TMP/can")"
fi

# ---- triggers ----
start_agent "${OPTIONS[@]}" --trigger 'system:99%:for=600s:dry-run:name=dry' || { fail "agent starts"; finish; }
ok "dry runs alone: not ready" wait_for 30 says "not ready: every trigger that is armed is a dry run"
stop_agent
finish
