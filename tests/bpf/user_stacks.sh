#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# User stacks of programs without frame pointers, against a call chain that is known: blocked in
# libc and on the CPU, in a library that was loaded later, in a child that did not exec.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

PROGRAMS=$BUILD/tests/programs
levels='0 1 2 3'
[ -n "${STALLBOX_IN_VM:-}" ] && levels=2 # names of so many busy programs take an emulated machine too long
CHAIN='chain_inner;chain_middle;chain_outer;main'

# complete KIND COMM: of its user stacks, a line each, the complete ones.
complete_of() {
	events --kind "$1" --comm "$2" "$BUNDLE" | jq -r 'select(.ustack_end) | .ustack_end' >"$TEST_TMP/stacks"
	from_first '^complete$'
}
# share KIND COMM CHAIN [WHERE]: those with the chain of its user stacks that have WHERE:
# a program that begins, or becomes another one, stands elsewhere at times.
share() {
	events --kind "$1" --comm "$2" "$BUNDLE" | jq -r "select((.ustack | length > 0) and .ts_ns >= ${SINCE_NS:-0}) | .ustack | join(\";\")" |
		grep -- "${4:-}" >"$TEST_TMP/stacks"
	from_first "$3"
}
# "so many / all from the first of them on, before it"
from_first() {
	awk -v want="$1" '$0 ~ want {with++} {if (with) all++; else before++} END {print with + 0 "/" all + 0, before + 0}' "$TEST_TMP/stacks"
}
# The first blocks of a process may be walked before its tables are there, which on a busy host takes a while: from the
# first one with the chain on 95 of 100 have it, and before that are no more than after it, and than a fifth of a second has:
# ten blocks of 20 ms, or twenty samples at 99 Hz. An emulated machine takes longer.
BEFORE_MAX=10
[ -z "${STALLBOX_IN_VM:-}" ] || BEFORE_MAX=100
nearly_all() {
	local with=${2%/*} all before max=$BEFORE_MAX

	case $1 in "on the CPU"*) max=$((max * 2)) ;; esac
	all=${2#*/} all=${all% *} before=${2#* }
	if [ "$all" -ge 10 ] && [ $((with * 100)) -ge $((all * 95)) ] && [ "$before" -le "$all" ] && [ "$before" -le "$max" ]; then
		pass "$1 ($with/$all after $before)"
	else
		fail "$1" "$with of $all stacks have the chain, $before before" "$(sort "$TEST_TMP/stacks" | uniq -c | sort -rn | head -n 5)"
	fi
}

JIT_PIDS=
extra_cleanup() {
	local p
	for p in $JIT_PIDS; do rm -f "/tmp/perf-$p.map" "/tmp/jit-$p.dump"; done
}
# There before the recorder: files that are deleted or others by now, and a root that is no mount's.
for p in old_deleted old_replaced; do
	cp "$PROGRAMS/chain_O2" "$TEST_TMP/$p"
	spawn "$TEST_TMP/$p" sleep 600
done
# And an upgraded library.
cp "$PROGRAMS/plugin.so" "$TEST_TMP/old_plugin.so"
cp "$PROGRAMS/chain_O2" "$TEST_TMP/old_plugged"
spawn "$TEST_TMP/old_plugged" dlopen "$TEST_TMP/old_plugin.so" 600
loaded() { grep -q old_plugin.so "/proc/$SPAWNED/maps"; }
wait_for 30 loaded
rm "$TEST_TMP/old_plugin.so"
mkdir "$TEST_TMP/chroot"
ldd "$PROGRAMS/chain_O2" | grep -o '/[^ ]*' | xargs cp --parents -L -t "$TEST_TMP/chroot"
cp "$PROGRAMS/chain_O2" "$TEST_TMP/chroot/old_chrooted"
spawn chroot "$TEST_TMP/chroot" /old_chrooted sleep 600
became() { [ "$(cat "/proc/$SPAWNED/comm")" = old_chrooted ]; }
wait_for 30 became
rm "$TEST_TMP/old_deleted" "$TEST_TMP/old_replaced"
cp "$PROGRAMS/chain_O0" "$TEST_TMP/old_replaced"
# Go's compiler on an emulated CPU takes too long.
if [ -z "${STALLBOX_IN_VM:-}" ] && command -v go >/dev/null; then
	for flags in '' '-s -w'; do
		GOCACHE=$TEST_TMP/cache GO111MODULE=off go build -ldflags "$flags" -o "$TEST_TMP/go_${flags:+stripped}" \
			"$ROOT/tests/helpers/unwind_victim.go" || fail "Go builds"
	done
	mv "$TEST_TMP/go_" "$TEST_TMP/go_cgo"
	is "without symbols" "$(nm "$TEST_TMP/go_stripped" 2>/dev/null | wc -l)" 0
fi
start_agent --post 1s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
if [ "$(status_of '.missing | index("user stacks by .eh_frame") != null')" = true ]; then
	skip "user stacks by .eh_frame" "this kernel or build has no walk by tables"
	# What is left says how it was taken.
	spawn "$PROGRAMS/chain_O2" sleep 600
	ok "a freeze gives a bundle" freeze
	like "and info says what is missing" "$("$STALLBOX" info "$BUNDLE")" 'user stacks by \.eh_frame'
	finish
fi
ok "the host's processes become known" wait_for 60 known

# Memory for tables is taken as they need it, and told.
keeper_pid() { pgrep -P "$AGENT" stallbox-unwind; }
bpftool=$(command -v bpftool || echo /usr/sbin/bpftool)
# The maps that are the pieces of this agent's memory for tables, by id: what is in its map of maps (BPF_MAP_TYPE_ARRAY_OF_MAPS).
pieces() {
	local outer
	outer=$(cat "/proc/$(keeper_pid)"/fdinfo/* 2>/dev/null | awk '$1 == "map_type:" {type = $2} $1 == "map_id:" && type == 12 {print $2; exit}')
	"$bpftool" -j map dump id "$outer" | jq -r '.[].value | arrays | map(ltrimstr("0x")) | reverse | add' | while read -r id; do echo $((16#$id)); done
}
piece_bytes() { pieces | while read -r id; do "$bpftool" -j map show id "$id"; done | jq -s 'map(.max_entries * .bytes_value) | add // 0'; }
between "memory for tables is what they need, in bytes" "$(status_of '.unwind | .room_bytes - .table_bytes')" 0 1048576
same_memory() { [ "$(status_of .unwind.room_bytes)" = "$(piece_bytes)" ]; } # tables come meanwhile
ok "and what the kernel has given" wait_for 30 same_memory
between "which is not all that it may take" "$(status_of '.unwind | .table_max_bytes - .room_bytes')" 1 33554432
pieces >"$TEST_TMP/first_pieces"
first=$(keeper_pid)
kill -KILL "$first"
another() { [ -n "$(keeper_pid)" ] && [ "$(keeper_pid)" != "$first" ] && known; }
ok "another mapping process begins" wait_for 60 another
# What the agent closes has to end: links, events and sockets that another process holds go on.
held() { find "/proc/$(keeper_pid)/fd" -type l -printf '%f %l\n' | awk '$1 > 2 {print $2}' | grep -vE '^(anon_inode:(bpf-map|\[(perf_event|eventfd)\])|pipe:.*|/.*)$' | sed 's/:\[.*//' | sort | tr '\n' ' '; }
is "it holds one socket, no link and no program of the agent's" "$(held)" 'socket '
is "and no event but those of the sideband, two for each CPU" "$(find "/proc/$(keeper_pid)/fd" -lname 'anon_inode:\[perf_event\]' | wc -l)" $(($(getconf _NPROCESSORS_ONLN) * 2))
# The kernel gives memory back later.
no_others() { pieces | sort >"$TEST_TMP/pieces" && ! sort "$TEST_TMP/first_pieces" | comm -23 - "$TEST_TMP/pieces" | while read -r id; do "$bpftool" map show id "$id" 2>/dev/null; done | grep -q .; }
ok "and the memory of the first one's tables is gone" wait_for 30 no_others
ok "what it has itself is told" wait_for 30 same_memory

# One that cannot begin is not the last one: without room for another open file there is no sideband.
prlimit --pid "$AGENT" --nofile=6:
kill -KILL "$(keeper_pid)"
ok "one that cannot begin is told" wait_for 60 log_has 'has ended, .*another one begins, in [0-9]+ s'
prlimit --pid "$AGENT" --nofile="$(ulimit -Hn)":
ok "another one begins, when it can" wait_for 120 known
between "status says how many did" "$(status_of .unwind.restarts)" 3 20
is "and that there is one" "$(status_of '.unwind | "\(.waiting) \(.error)"')" 'false 0'

for o in $levels; do
	for mode in sleep read futex spin; do
		cp "$PROGRAMS/chain_O$o" "$TEST_TMP/${mode}_O$o"
		spawn "$TEST_TMP/${mode}_O$o" $mode 600
	done
done
# With frame pointers, which are taken for nothing where there are rows.
for o in $levels; do
	cp "$PROGRAMS/chain_fp_O$o" "$TEST_TMP/fp_O$o"
	spawn "$TEST_TMP/fp_O$o" sleep 600
done
cp "$PROGRAMS/chain_O2" "$TEST_TMP/turns"
spawn "$TEST_TMP/turns" turns 600
cp "$PROGRAMS/chain_O2" "$TEST_TMP/plugged"
cp "$PROGRAMS/chain_O2" "$TEST_TMP/forked"
cp "$PROGRAMS/chain_O2" "$TEST_TMP/gone"
cp "$PROGRAMS/chain_O1" "$TEST_TMP/closed"
cp "$PROGRAMS/chain_O3" "$TEST_TMP/before"
cp "$PROGRAMS/chain_O1" "$TEST_TMP/after"
cp "$PROGRAMS/chain_O2" "$TEST_TMP/signalled"
strip -o "$TEST_TMP/stripped" "$PROGRAMS/chain_O2"
# Another program that says it is this one.
objcopy --dump-section .note.gnu.build-id="$TEST_TMP/id" "$PROGRAMS/chain_O2" "$TEST_TMP/same"
objcopy --update-section .note.gnu.build-id="$TEST_TMP/id" "$PROGRAMS/chain_O0" "$TEST_TMP/claims"
spawn "$TEST_TMP/claims" sleep 600
spawn "$TEST_TMP/closed" dlclose "$PROGRAMS/plugin.so" 3
spawn "$TEST_TMP/before" exec "$TEST_TMP/after" 3
spawn "$TEST_TMP/signalled" signal 600
spawn "$TEST_TMP/stripped" sleep 600
# A root of its own, in which the program is and we are not.
mkdir "$TEST_TMP/root"
# shellcheck disable=SC2016 # for that shell
spawn unshare -m sh -c 'mount -t tmpfs none "$1" && cp "$2" "$1/contained" && exec "$1/contained" sleep 600' \
	sh "$TEST_TMP/root" "$PROGRAMS/chain_O2"
for how in perf-map jitdump memory; do
	cp "$PROGRAMS/jit" "$TEST_TMP/$how"
	spawn "$TEST_TMP/$how" $how 600
	JIT_PIDS="$JIT_PIDS ${TEST_PIDS[-1]}"
done
spawn "$TEST_TMP/plugged" dlopen "$PROGRAMS/plugin.so" 600
spawn "$TEST_TMP/forked" fork 600
cat >"$TEST_TMP/sleeper.py" <<'PY'
import time
def inner():
    while True:
        time.sleep(0.02)
inner()
PY
# By names of their own: others come and go.
ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$TEST_TMP/some_python3"
cp "$(command -v bash)" "$TEST_TMP/some_bash"
spawn "$TEST_TMP/some_python3" "$TEST_TMP/sleeper.py"
mkfifo "$TEST_TMP/fifo"
# shellcheck disable=SC2016 # for that shell
spawn "$TEST_TMP/some_bash" -c 'while read -r -t 0.02 x <>"$0" || true; do :; done' "$TEST_TMP/fifo"
for p in go_cgo go_stripped; do
	[ ! -e "$TEST_TMP/$p" ] || spawn "$TEST_TMP/$p" c-again
done
if [ -e "$TEST_TMP/go_stripped" ]; then
	cp "$TEST_TMP/go_stripped" "$TEST_TMP/go_leaf"
	spawn "$TEST_TMP/go_leaf" leaf
fi
# Those who were there before the recorder have been known for long from here on.
known_ns=$(python3 -c 'import time; print(time.monotonic_ns())')
# Of this one not even the file is there.
cp "$PROGRAMS/chain_O3" "$TEST_TMP/away"
"$TEST_TMP/away" sleep 4 &
away=$!
"$TEST_TMP/gone" sleep 4 # and is not there any more
wait $away
rm "$TEST_TMP/away"
ok "a freeze gives a bundle" freeze

if [ -e "$TEST_TMP/go_cgo" ]; then
	nearly_all "off the CPU, in C on the thread's stack, called by Go on the goroutine's" \
		"$(share off-cpu go_cgo '_Cfunc_hold;runtime.asmcgocall[.a-z0-9]*;runtime.cgocall[.a-z0-9]*;main._Cfunc_hold[.a-z0-9]*;main.inner;main.outer;main.main;runtime.main;runtime.goexit[.a-z0-9]*$' \
		'_cgo_[0-9a-z]*_Cfunc_hold;')"
	nearly_all "the same of a stripped one" "$(share off-cpu go_stripped \
		'usleep;_cgo_[0-9a-z]*_Cfunc_hold;runtime[.]asmcgocall;runtime[.]cgocall;main[.]_Cfunc_hold;main[.]inner;main[.]outer;main[.]main;runtime[.]main;runtime[.]goexit$' 'usleep;')"
	nearly_all "on the CPU, behind a function without a frame" "$(share on-cpu go_leaf \
		'main[.]leaf;main[.]inner;main[.]outer;main[.]main;runtime[.]main;runtime[.]goexit$' 'main[.]leaf')"
else
	skip "off the CPU, in C called by Go" "no go command (Debian package golang-go), or an emulated CPU"
fi
for o in $levels; do
	for mode in sleep read futex; do
		nearly_all "off the CPU, $mode, -O$o" "$(share off-cpu "${mode}_O$o" "$CHAIN")"
	done
	nearly_all "off the CPU, with frame pointers, -O$o" "$(share off-cpu "fp_O$o" "$CHAIN")"
	nearly_all "on the CPU, -O$o" "$(share on-cpu "spin_O$o" "$CHAIN")"
done
# Stacks are found again as they were, most of them, but only where they are.
turns() { share off-cpu turns "$1" nanosleep | sed 's|/.*||'; }
left=$(turns 'block_turns;chain_inner') right=$(turns 'chain_right;block_turns;chain_inner') of_left=$(turns 'chain_left;block_turns;chain_inner')
# Each sleeps for 20 ms: of two that end less than 40 ms apart none lies between that was left out, and one is the other's.
events --kind off-cpu --comm turns "$BUNDLE" | jq -rs '
	map(select((.ustack | join(";")) | test("nanosleep.*;block_turns;")) | [.ts_ns / 1000000, (.ustack | index("chain_left") != null)]) | sort |
	[range(1; length) as $i | select(.[$i][0] - .[$i - 1][0] < 40) | .[$i][1] == .[$i - 1][1]] |
	"\(length) \(map(select(.)) | length)"' >"$TEST_TMP/in_turn"
read -r in_turn twice <"$TEST_TMP/in_turn"
between "waits in turn, by two callers" "$in_turn" $((left / 4)) "$left"
is "none is told to be the other's" "$twice" 0
is "are each told to be one's or the other's" "$((of_left + right))" "$left"
between "and many stacks were found again without a walk" "$(status_of .unwind.again)" "$left" 1000000000
nearly_all "through a library that was loaded later" "$(share off-cpu plugged 'chain_plugin;chain_middle;chain_outer;main')"
nearly_all "in a child that did not exec" "$(share off-cpu forked "$CHAIN")"
nearly_all "python3's are complete" "$(complete_of off-cpu some_python3)"
nearly_all "bash's are complete" "$(complete_of off-cpu some_bash)"
nearly_all "in a process that has ended" "$(share off-cpu gone "$CHAIN" nanosleep)"
nearly_all "in a library that was unloaded" "$(share off-cpu closed 'chain_plugin;chain_middle;chain_outer;main' nanosleep)"
nearly_all "in a program before it became another one" "$(share off-cpu before "$CHAIN" nanosleep)"
nearly_all "and in that one" "$(share off-cpu after "$CHAIN" nanosleep)"
nearly_all "of a program with the build-id of another one" "$(share off-cpu claims "$CHAIN" nanosleep)"
nearly_all "in a signal handler" "$(share off-cpu signalled 'chain_inner;chain_middle;chain_outer;on_signal;.*raise;in_signal;main')"
nearly_all "in a program that was deleted before" "$(SINCE_NS=$known_ns share off-cpu old_deleted "$CHAIN" nanosleep)"
nearly_all "in one that was replaced before" "$(SINCE_NS=$known_ns share off-cpu old_replaced "$CHAIN" nanosleep)"
nearly_all "in a library that was deleted before" "$(SINCE_NS=$known_ns share off-cpu old_plugged 'chain_plugin;chain_middle;chain_outer;main' nanosleep)"
nearly_all "in a root that is no mount's" "$(SINCE_NS=$known_ns share off-cpu old_chrooted "$CHAIN" nanosleep)"
nearly_all "in another root" "$(share off-cpu contained "$CHAIN" nanosleep)"
if [ -z "${STALLBOX_IN_VM:-}" ]; then
	for how in perf-map jitdump memory; do
		nearly_all "code made at run time, $how" "$(share off-cpu $how 'block;jitted_outer;main')"
	done
	# Functions of a stripped program are told apart by where they start.
	start_of() { nm "$PROGRAMS/chain_O2" | awk -v f="$1" '$3 == f { sub(/^0+/, "", $1); print $1 }'; }
	nearly_all "a stripped program's functions, by their starts" "$(share off-cpu stripped \
		"stripped[+]0x$(start_of chain_inner);stripped[+]0x$(start_of chain_middle);stripped[+]0x$(start_of chain_outer);stripped[+]0x$(start_of main)")"
	is "nobody who was known was asked for mappings" "$("$STALLBOX" export --format ndjson "$BUNDLE" |
		jq -r 'select(.type == "process" and (.comm | test("^(sleep_O2|gone|before|contained)$"))) | .maps' | sort -u)" known
fi
# Kernel code that comes and goes tells its name.
went() { status_of .unwind.ksyms; }
before=$(went)
"$bpftool" prog load "$BUILD/tests/bpf/unwind_walk.bpf.o" "$PINS/walk"
prog=$("$bpftool" -j prog show pinned "$PINS/walk" | jq .id)
rm "$PINS/walk"
has_gone() { ! "$bpftool" prog show id "$prog" >/dev/null 2>&1; } # which takes a busy kernel a minute
wait_for 300 has_gone
more_went() { [ "$(went)" -gt "$before" ]; }
ok "a BPF program that goes is noted" wait_for 30 more_went
# What else is needed to look kernel addresses up elsewhere.
zstd -dc "$BUNDLE" | protoc --proto_path="$ROOT/format" --decode=stallbox.v1.Capture capture.proto >"$TEST_TMP/decoded"
is "where the kernel lies is in the bundle" "$(grep -c 's: "_text"$' "$TEST_TMP/decoded")" 1
if [ -e /sys/module/9pnet/notes/.note.gnu.build-id ]; then # the root of a VM: somebody waits for it
	between "modules with a build-id" "$(grep -c 'kind: 3$' "$TEST_TMP/decoded")" 1 100
fi
# Symbols that are elsewhere complete it.
like "info says of how many files" "$("$STALLBOX" info "$BUNDLE")" '[1-9][0-9]* files missed: files of user stacks that could not be opened for names'
is "without its file nothing has a name" "$(share off-cpu away chain_inner | cut -d/ -f1)" 0
id=$(readelf -nW "$PROGRAMS/chain_O3" | sed -n 's/.*Build ID: *//p')
mkdir -p "$TEST_TMP/debug/.build-id/${id:0:2}"
objcopy --only-keep-debug "$PROGRAMS/chain_O3" "$TEST_TMP/debug/.build-id/${id:0:2}/${id:2}.debug"
cp "$BUNDLE" "$TEST_TMP/completed"
ok "symbols of another host are added" "$STALLBOX" symbolize --debug-dir "$TEST_TMP/debug" "$TEST_TMP/completed"
nearly_all "then it is the same graph" "$(BUNDLE=$TEST_TMP/completed share off-cpu away "$CHAIN" nanosleep)"
# Not every block has its user stack saved: in one freeze of some.
in_stackshot() {
	freeze || return 1
	for mode in sleep read futex; do
		n=$("$STALLBOX" fold --kind blocked --comm "${mode}_O2" "$BUNDLE" | grep -c 'main;chain_outer;chain_middle;chain_inner;')
		[ "$n" = 0 ] || echo "$n" >"$TEST_TMP/stackshot.$mode"
	done
	[ "$(cat "$TEST_TMP"/stackshot.* | wc -l)" = 3 ]
}
wait_for 30 in_stackshot
for mode in sleep read futex; do is "in the stackshot, $mode" "$(cat "$TEST_TMP/stackshot.$mode")" 1; done
"$STALLBOX" info "$BUNDLE" | grep '^user stacks' | sed 's/^/# /'
"$STALLBOX" status --socket "$SOCKET" | grep -A1 -E '^(user stacks|tables)' | sed 's/^/# /'
stop_agent

# The same programs the way they were before.
start_agent --post 1s --trigger 'kernel:reclaim>600s' --user-unwind frame-pointer
"$TEST_TMP/gone" sleep 2
ok "a freeze by frame pointers gives a bundle" freeze
is "which says how" "$(events --comm some_bash "$BUNDLE" | jq -r 'select(.ustack_by) | .ustack_by' | sort -u)" frame-pointer
is "and has no whole chain" "$(share off-cpu sleep_O2 "$CHAIN" | cut -d/ -f1)" 0
for p in some_bash some_python3; do
	echo "# $p by frame pointers: $(events --kind off-cpu --comm $p "$BUNDLE" | jq -s 'map(select(.ustack | length > 0) |
		.ustack | length) | "\(length) stacks of \(add / length * 10 | round / 10) frames"' 2>/dev/null)"
done
stop_agent
start_agent --post 1s --trigger 'kernel:reclaim>600s' --user-unwind off
"$TEST_TMP/gone" sleep 1
ok "a freeze without user stacks gives a bundle" freeze
is "it has none" "$(events "$BUNDLE" | jq -c 'select(.ustack | length > 0)' | wc -l)" 0
stop_agent
for p in "${TEST_PIDS[@]}"; do kill "$p" 2>/dev/null; done
wait "${TEST_PIDS[@]}" 2>/dev/null
# Those that these had forked, too.
none_left() { ! pgrep -f "$TEST_TMP/"; }
ok "no program of this test is left" wait_for 20 none_left
pgrep -af "$TEST_TMP/" | sed 's/^/# /'
finish
