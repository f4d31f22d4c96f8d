#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A bundle that got its names where it was recorded, and the same bundle without them, completed by 'stallbox symbolize' in a
# root that has none of these programs, only symbols by build-id: each line of each folded graph is the same.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

empty() { rmdir "$CGROUP"; } # children end a little later than who started them
extra_cleanup() { [ -z "${CGROUP:-}" ] || wait_for 20 empty; }
start_agent --post 0s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
if [ "$(status_of '.missing | index("user stacks by .eh_frame") != null')" = true ]; then
	skip "the same graph elsewhere" "this kernel or build has no walk by tables"
	finish
fi
ok "the host's processes become known" wait_for 60 known

# Programs of a cgroup of their own: what else the host does, and takes away before we have its symbols, is not asked for.
# The memory hierarchy of cgroup v1 where there is one: there the recorder looks, too.
at=$(findmnt -n -t cgroup -O memory -o TARGET | head -n 1)
CGROUP=${at:-$(findmnt -n -t cgroup2 -o TARGET | head -n 1)}/stallbox-test-$$
mkdir "$CGROUP" || { skip "the same graph elsewhere" "no cgroup can be made"; CGROUP=''; finish; }
# shellcheck disable=SC2016 # for that shell
within() { spawn bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$CGROUP" "$@"; }
cat >"$TEST_TMP/work.py" <<'PY'
import time, zlib
data = bytes(range(256)) * 400
while True:
    zlib.compress(data)
    time.sleep(0.01)
PY
# The interpreter itself: python3 may be a script that runs programs which have ended when their files are looked for.
within "$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')" "$TEST_TMP/work.py"
strip -o "$TEST_TMP/stripped" "$BUILD/tests/programs/chain_O2"
for mode in sleep read futex spin; do within "$BUILD/tests/programs/chain_O2" $mode 600; done
within "$BUILD/tests/programs/chain_O3" dlopen "$BUILD/tests/programs/plugin.so" 600
within "$TEST_TMP/stripped" sleep 600
# shellcheck disable=SC2016 # for that shell
within bash -c 'while :; do sleep 0.01 | cat; done'
worked() {
	[ "$(events --kind on-cpu --cgroup "/${CGROUP##*/}" "$BUNDLE" | wc -l)" -ge 100 ] &&
		"$STALLBOX" fold --kind blocked --comm stripped "$BUNDLE" | grep -q 'stripped+0x.*nanosleep' # it has come that far
}
enough() { freeze && worked; }
ok "a freeze gives a bundle with samples of all" wait_for 60 enough
cp "$BUNDLE" "$TEST_TMP/here.zst"
zstd -dc "$BUNDLE" | python3 "$ROOT/tests/helpers/without_names.py" 2>"$TEST_TMP/tables" | zstd -q --check >"$TEST_TMP/bare.zst"
between "tables of names that are left out" "$(cat "$TEST_TMP/tables")" 5 100000
ok "what is left is a whole bundle" "$STALLBOX" verify "$TEST_TMP/bare.zst"

# Symbols of what these programs have mapped, the vdso's and the kernel's.
mkdir -p "$TEST_TMP/root/debug" "$TEST_TMP/root/tmp"
python3 -c '
start, end = next(l.split()[0].split("-") for l in open("/proc/self/maps") if l.endswith("[vdso]\n"))
mem = open("/proc/self/mem", "rb")
mem.seek(int(start, 16))
open("'"$TEST_TMP"'/vdso", "wb").write(mem.read(int(end, 16) - int(start, 16)))'
{
	# Not of the stripped program: its build-id is that of the one with symbols.
	for pid in $(cat "$CGROUP/cgroup.procs"); do cat "/proc/$pid/maps"; done 2>/dev/null |
		awk -v not="$TEST_TMP/stripped" '$2 ~ /x/ && $6 ~ /^\// && $6 != not {print $6}' | sort -u
	echo "$TEST_TMP/vdso"
	readlink -f "$(command -v sleep)" "$(command -v cat)"
} | while read -r path; do
	id=$(readelf -nW "$path" 2>/dev/null | sed -n 's/.*Build ID: *//p' | head -n 1)
	[ -n "$id" ] || continue
	mkdir -p "$TEST_TMP/root/debug/.build-id/${id:0:2}"
	cp "$path" "$TEST_TMP/root/debug/.build-id/${id:0:2}/${id:2}"
	cp "/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug" "$TEST_TMP/root/debug/.build-id/${id:0:2}/" 2>/dev/null # what this host has installed besides
done
cp /proc/kallsyms "$TEST_TMP/root/kallsyms"
cp "$STALLBOX" "$TEST_TMP/root/stallbox"
cp "$TEST_TMP/bare.zst" "$TEST_TMP/root/completed.zst"
ldd "$STALLBOX" | grep -o '/[^ ]*' | xargs cp --parents -L -t "$TEST_TMP/root"
elsewhere() { unshare -m chroot "$TEST_TMP/root" /stallbox "$@"; }
is "that root has none of these programs" "$(cd "$TEST_TMP/root" && find . -name 'python3*' -o -name 'chain_O*' -o -name stripped -o -name bash)" ''
graph() { "$STALLBOX" fold --kind "$1" --cgroup "/${CGROUP##*/}" "$2" | LC_ALL=C sort | grep -v '^stripped;'; }
for kind in on-cpu off-cpu blocked; do
	graph $kind "$TEST_TMP/here.zst" >"$TEST_TMP/$kind.here"
	graph $kind "$TEST_TMP/bare.zst" >"$TEST_TMP/$kind.bare"
	between "$kind: lines of the graph that differ without names" "$(comm -23 "$TEST_TMP/$kind.here" "$TEST_TMP/$kind.bare" | wc -l)" 5 100000
done
ok "symbols are added elsewhere" elsewhere symbolize --names-only --debug-dir /debug --kallsyms /kallsyms /completed.zst
# The stripped program has the build-id of the one that it was made from: elsewhere its functions have names.
for kind in on-cpu off-cpu blocked; do
	elsewhere fold --kind $kind --cgroup "/${CGROUP##*/}" /completed.zst | LC_ALL=C sort >"$TEST_TMP/$kind.all"
	grep -v '^stripped;' "$TEST_TMP/$kind.all" >"$TEST_TMP/$kind.there"
	if cmp -s "$TEST_TMP/$kind.here" "$TEST_TMP/$kind.there"; then
		pass "$kind: the same graph, line by line ($(wc -l <"$TEST_TMP/$kind.here") lines)"
	else
		fail "$kind: the same graph, line by line" "$(diff "$TEST_TMP/$kind.here" "$TEST_TMP/$kind.there" | head -n 20)"
	fi
done
is "a stripped program has no names here" "$("$STALLBOX" fold --kind blocked --comm stripped "$TEST_TMP/here.zst" | grep -c 'stripped+0x.*;stripped+0x')" 1
is "and has them elsewhere, by its build-id" "$(grep -c '^stripped;.*;main;chain_outer;chain_middle;chain_inner;block_sleep;' "$TEST_TMP/blocked.all")" 1
stop_agent
finish
