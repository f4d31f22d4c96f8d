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

# traces: what a command could leave behind
traces() {
	ls -d /sys/fs/cgroup/stallbox-* /sys/fs/cgroup/*/stallbox-* /tmp/frozen_fs* /tmp/fuse_fault* 2>/dev/null
	losetup -a 2>/dev/null | grep frozen_fs
	pgrep -r R,S,D -x stallbox-worklo # a zombie is for init to wait for
	pgrep -r R,S,D -x fuse-server
}
if [ "$(id -u)" != 0 ]; then
	skip "what an interrupted command leaves behind" "root is needed to make anything"
	finish
fi
is "nothing is there before" "$(traces)" ""
gone() { [ -z "$(traces)" ]; }
# each: until it has begun, as its own output or a trace says
for how in INT TERM; do
	for c in "cpu_quota 60 20" "frozen_fs 2 60" "fuse_fault read 1 60" "reclaim_storm --limit 64 --file-threads 4 --anon-threads 2 --seconds 60 --dir $TEST_TMP" "dstall 2 60"; do
		: >"$TEST_TMP/out"
		# shellcheck disable=SC2086 # words
		env --default-signal=INT "$W" $c >"$TEST_TMP/out" 2>"$TEST_TMP/err" &
		pid=$!
		begun() { [ -s "$TEST_TMP/out" ] || [ -n "$(ls -d /sys/fs/cgroup/stallbox-* /sys/fs/cgroup/*/stallbox-* 2>/dev/null; pgrep -x fuse-server)" ] || _ended $pid; }
		wait_for 20 begun
		kill -$how $pid
		wait $pid
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
: >"$TEST_TMP/out"
"$W" frozen_fs 2 60 >"$TEST_TMP/out" 2>"$TEST_TMP/err" &
pid=$!
begun() { [ -s "$TEST_TMP/out" ] || _ended $pid; }
wait_for 20 begun
{ kill -KILL $pid && wait $pid; } 2>/dev/null
ok "SIGKILL: a frozen file system is thawed, and gone" wait_for 20 gone
finish
