#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# stallbox-workload as far as it needs no incident: what it says, what it refuses, and that whatever it makes is gone when
# it has been interrupted. That each command causes its stall is for tests/incidents.
. "$(dirname "$0")/../lib.sh"
W=$BUILD/stallbox-workload

commands=$("$W" --help | sed -nE 's/^  ([a-z_]+) {2,}.*/\1/p')
between "commands" "$(wc -w <<<"$commands")" 10 100
is "the help names those that the manual page has" "$(sort <<<"$commands" | xargs)" \
	"$(grep -A1 '^\.T[PQ]' "$ROOT/tests/workloads/command/stallbox-workload.1" | sed -nE 's/^\.B ([a-z_]+)$/\1/p' | sort -u | xargs)"
for c in $commands; do
	out=$("$W" "$c" --help 2>&1)
	is "$c --help" "$? ${out%% "$c"*}" "0 usage: stallbox-workload"
	"$W" "$c" --no-such-thing 1 2 3 4 5 6 7 8 >/dev/null 2>&1
	is "$c refuses what it does not know" $? 2
done
"$W" exec-storm 0.2 >"$TEST_TMP/out"
is "a dash is as good as an underscore" $? 0
"$W" no_such_stall 2>"$TEST_TMP/err"
is "another command is refused" $? 2
like "and it is said" "$(cat "$TEST_TMP/err")" "there is no 'no_such_stall' hint: try --help"
"$W" 2>/dev/null
is "none at all, too" $? 2

# Each command has a session of its own, so that what others do on this machine is none of its traces.
SESSIONS=
# in_background COMMAND...: of stallbox-workload, its pid in $PID, what it says in $TEST_TMP/out and err
in_background() {
	: >"$TEST_TMP/out"
	env --default-signal=INT setsid "$W" "$@" >"$TEST_TMP/out" 2>"$TEST_TMP/err" &
	PID=$!
	TEST_PIDS+=("$PID")
	SESSIONS+=${SESSIONS:+,}$PID
}
# a zombie is for init to wait for
ours() { [ -z "$SESSIONS" ] || pgrep -r R,S,D -s "$SESSIONS" "$@"; }
is_of_others() { # PID
	local sid
	sid=$(ps -o sid= -p "$1") && [[ ,$SESSIONS, != *,"${sid// /}",* ]]
}
# Each is named after the process that made it.
groups() {
	local d
	for d in /sys/fs/cgroup/stallbox-* /sys/fs/cgroup/*/stallbox-*; do
		[ ! -d "$d" ] || is_of_others "${d##*.}" || echo "$d"
	done
}
# The file of the device has no name any more: who made it has it open.
devices() {
	local p
	for p in $(pgrep -x frozen_fs; pgrep -x stallbox-worklo); do
		! is_of_others "$p" || find "/proc/$p/fd" -lname '/tmp/frozen_fs_image*' -printf '%l\n' 2>/dev/null
	done >"$TEST_TMP/of_others"
	losetup -n -O BACK-FILE | grep frozen_fs | grep -vxFf "$TEST_TMP/of_others"
}
# traces: what a command could leave behind
traces() {
	groups
	devices
	ls -d /tmp/frozen_fs* 2>/dev/null
	ours
}
if [ "$(id -u)" != 0 ]; then
	skip "what an interrupted command leaves behind" "root is needed to make anything"
	finish
fi
gone() { [ -z "$(traces)" ]; }
ok "nothing is there before" wait_for 20 gone # another one's directory is there for some ms
# each: until it has begun, as its own output or a trace says
for how in INT TERM; do
	for c in "cpu_quota 60 20" "frozen_fs 2 60" "fuse_fault read 1 60" "reclaim_storm --limit 64 --file-threads 4 --anon-threads 2 --seconds 60 --dir $TEST_TMP" "dstall 2 60"; do
		# shellcheck disable=SC2086 # words
		in_background $c
		begun() { [ -s "$TEST_TMP/out" ] || [ -n "$(groups; ours -x fuse-server)" ] || _ended "$PID"; }
		wait_for 20 begun
		kill -$how "$PID"
		wait "$PID"
		rc=$?
		if [ $rc = 77 ]; then
			skip "SIG$how: ${c%% *} leaves nothing behind" "$(tail -n 1 "$TEST_TMP/err")"
		else
			ok "SIG$how: ${c%% *} leaves nothing behind" wait_for 20 gone
			gone || traces | sed 's/^/# /'
		fi
	done
done
# Not even of those that are killed while their threads stand.
in_background frozen_fs 2 60
begun() { [ -s "$TEST_TMP/out" ] || _ended "$PID"; }
wait_for 20 begun
{ kill -KILL "$PID" && wait "$PID"; } 2>/dev/null
ok "SIGKILL: a frozen file system is thawed, and gone" wait_for 20 gone
finish
