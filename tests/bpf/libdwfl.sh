#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# User stacks that the BPF programs have taken, beside what elfutils' libdwfl finds in a copy of registers and stack that the
# kernel's perf made of the same event of the same thread: when it left the CPU to wait, and in the interrupt of the sampler.
#
#     tests/run bpf/libdwfl                 three programs
#     PROGRAMS=all tests/run bpf/libdwfl    all of them, and a table for tests/bench/RESULTS.md
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

UNWIND_EVENTS=$BUILD/tests/helpers/unwind_events
SECONDS_EACH=${SECONDS_EACH:-3}
PROGRAMS=${PROGRAMS:-bash python3 cxx}
T=$TEST_TMP
[ -z "${STALLBOX_IN_VM:-}" ] || { skip "stacks beside libdwfl" "an emulated machine takes the copies too late"; finish; }
[ -x "$UNWIND_EVENTS" ] || { skip "stacks beside libdwfl" "a build without tables for user stacks"; finish; }
wanted() { [[ " $PROGRAMS " == *" all "* || " $PROGRAMS " == *" $1 "* ]]; }

# Each waits for some milliseconds, computes, and waits again, below a chain of calls.
start_agent --post 0s --cooldown 0s --frequency 399 --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
if [ "$(status_of '.missing | index("user stacks by .eh_frame") != null')" = true ]; then
	skip "stacks beside libdwfl" "this kernel or build has no walk by tables"
	finish
fi
ok "the host's processes become known" wait_for 60 known

# compare NAME KNOWN COMMAND...: all its threads. Of 100 events, and of 100 waits, the two stacks are identical in 99, are it as far as libdwfl
# found the words in the copy, or a witness says that ours is right (tests/helpers/same_events.py). No 5 of 100 may be such ones "as far",
# and no frame of ours false. KNOWN: its classes, separated by '|', that this program may have, too. Else only such where ours is longer
# and complete, cut at the recorder's limit, or says that a table is missing. CALLS: of a program of Go, the file with its symbols. ALIKE=99: in
# so many of 100 events the two are identical, whatever a witness says. CODE: of another program, that is where it is linked to be: the file.
compare() {
	local name=$1 classes=$2 pid helper text
	shift 2
	wanted "${name%%,*}" || return 0
	"$@" >"$T/out" 2>&1 &
	pid=$!
	TEST_PIDS+=("$pid")
	sleep 1 # it is loaded and at work
	# A process that the recorder does not know has stacks by frame pointers, marked as such: three tries, each of those that
	# fail is printed with what the mapping process says. Some last for minutes, and it is not known why.
	for _ in 1 2 3; do
		wait_for 60 known
		rm -f "$T/json"
		: >"$T/err" # before the next process may write to it
		"$UNWIND_EVENTS" "$SECONDS_EACH" "$pid" >"$T/theirs" 2>"$T/err" &
		helper=$!
		recorded() { grep -q recorded "$T/err" || _ended "$helper"; }
		wait_for 60 recorded
		freeze || fail "$name: a freeze"
		wait "$helper"
		case $? in
		0) ;;
		77) skip "$name: stacks beside libdwfl" "$(tail -n 1 "$T/err")" && break ;;
		*) fail "$name: its events are copied" "$(tail -n 3 "$T/err" "$T/out")" && break ;;
		esac
		"$STALLBOX" export --format ndjson "$BUNDLE" >"$T/ndjson"
		events "$BUNDLE" >"$T/events"
		python3 "$ROOT/tests/helpers/same_events.py" "$T/theirs" "$T/ndjson" "$T/events" ${CODE:+"$CODE"} >"$T/json" 2>"$T/differ" || echo '{}' >"$T/json"
		[ "$(jq '((.unknown // 0) + (."ours ends, table evicted" // 0)) * 100 > (.events // 0) or (.events // 0) < 50' "$T/json")" = true ] || break
		echo "# $name: not known yet, $(cat "$T/json"), $(status_of .unwind | tr -d ' \n')"
	done
	# Go's runtime prints its stacks then.
	kill -s "$([ -z "${CALLS:-}" ] && echo TERM || echo QUIT)" "$pid"
	wait "$pid" 2>/dev/null
	[ -e "$T/json" ] || return 0 # its events were not copied, and that has been said
	if [ -n "${CALLS:-}" ]; then
		python3 "$ROOT/tests/helpers/same_events.py" "$T/theirs" "$T/ndjson" "$T/events" "$CALLS" "$T/out" >"$T/json" 2>"$T/differ" || echo '{}' >"$T/json"
	fi
	text=$(jq -r --arg known "$classes" --argjson alike "${ALIKE:-0}" '(.events // 0) as $n | ($known | split("|")) as $known |
		[.open | keys[] | select(IN("copy", "below", "depth", "ours longer", "another event", "unknown", "neither", "ours ends, table evicted", $known[]) | not)] as $wrong |
		([.open[]] | add // 0) as $open |
		if $n < 50 then "\($n) events of both"
		elif .alone * 20 > $n then "\(.alone) of ours were not copied, beside \($n) that were"
		elif (."as far" // 0) > $n / 20 then "too few whole copies"
		elif (.unknown // 0) * 100 > $n then "not known to the recorder"
		elif (.identical // 0) * 100 < $n * $alike then "identical in less than \($alike) of 100"
		elif ($wrong | length) > 0 then "differ otherwise: \($wrong | join(", "))"
		elif $open * 100 > $n or ."open waits" * 100 > (."off-cpu" // 0) then "identical, or ours by a witness, in less than 99 of 100"
		else "" end' "$T/json" || echo "no counts")
	if [ -z "$text" ]; then pass "$name: as libdwfl for the same events"; else fail "$name: as libdwfl for the same events" "$text" "$(cat "$T/err" "$T/differ")"; fi
	jq -r --arg name "$name" '(.events // 1) as $n | def share: "\(. * 1000 / $n | floor / 10) %"; .open as $open |
		[to_entries[] | select(.key | IN("events", "on-cpu", "off-cpu", "frames", "complete", "identical", "as far", "frames as far", "cut", "open", "open waits", "alone", "ours by witness", "gap by witness") | not) |
		"\(.value) \(.key)\(if $open[.key] then " (\($open[.key]) open)" else "" end)"] as $other |
		"# | \($name) | \(."off-cpu" // 0) + \(."on-cpu" // 0) | \((.frames // 0) / $n * 10 | round / 10) | \((.complete // 0) | share) |" +
		" \((.identical // 0) | share) | \(if ."as far" then "\(."as far") (\(."frames as far" / ."as far" * 10 | round / 10) frames)" else 0 end) |" +
		" \((.identical // 0) + (."as far" // 0) + (."ours by witness" // 0) - (.open.neither // 0) | share) |" +
		" \(."gap by witness" // 0) | \(.cut // 0) | \($other | join(", ")) |"' "$T/json"
}

mkfifo "$T/fifo"
cat >"$T/work.bash" <<'WORK'
work() {
	local i s=0
	read -r -t 0.004 s <>"$fifo"
	for ((i = 0; i < 300; i++)); do s=$((s + i)); done
	[ "$1" = 0 ] || work $(($1 - 1))
}
fifo=$1
while :; do work 3; done
WORK
compare bash '' bash "$T/work.bash" "$T/fifo"
cat >"$T/work.py" <<'WORK'
import time
def work(n):
    return work(n - 1) if n else sum(i * i for i in range(20000))
while True:
    work(5)
    time.sleep(0.003)
WORK
compare python3 '' python3 "$T/work.py"
cat >"$T/work.cc" <<'WORK'
#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>
struct handler { virtual ~handler() = default; virtual std::string handle(const std::string &, int) = 0; };
struct routes : handler {
	std::map<std::string, std::function<std::string(int)>> table;
	routes()
	{
		table["/sum"] = [](int n) { std::vector<int> v(2000 + n); int i = 0; std::generate(v.begin(), v.end(), [&] { return i += 7; });
			std::sort(v.begin(), v.end(), std::greater<int>()); return std::to_string(v[3]); };
		table["/wait"] = [](int n) { std::this_thread::sleep_for(std::chrono::milliseconds(2)); return std::to_string(n); };
		table["/throw"] = [](int n) -> std::string { throw std::runtime_error(std::to_string(n)); };
	}
	std::string handle(const std::string &line, int depth) override
	{
		static const std::regex e("(/[a-z]+)(\\?(.*))?");
		std::smatch m;
		if (depth) return handle(line, depth - 1);
		if (!std::regex_match(line, m, e)) return "bad";
		return table.at(m[1])(depth);
	}
};
static void serve()
{
	static const char *const lines[] = { "/sum?x=1", "/sum", "/throw?a", "/wait?b=1" };
	routes r;
	size_t n = 0;
	for (int i = 0;; i++) {
		std::ostringstream o;
		try { o << r.handle(lines[i % 4], i % 7); } catch (const std::exception &e) { o << e.what(); }
		n += o.str().size();
	}
}
int main() { std::thread other(serve); serve(); }
WORK
# libgcc, on its way to a handler, puts the handler's frame in the place of its own; at its last instruction the address is in a register.
g++ -w -O2 -pthread -Wl,-z,now -o "$T/cxx" "$T/work.cc" && compare cxx 'no mapping|ours ends, unsupported rule' "$T/cxx"

cat >"$T/work.js" <<'WORK'
const word = new Int32Array(new SharedArrayBuffer(4));
function work(n) {
	if (n) return work(n - 1) + 1;
	const m = new Map();
	for (let i = 0; i < 20000; i++) m.set('k' + i % 977, (m.get('k' + i % 977) || 0) + i);
	Atomics.wait(word, 0, 0, 3);
	return JSON.stringify([...m]).length;
}
setInterval(() => work(5), 2);
WORK
if wanted node && command -v node >/dev/null; then
	compare node '' node "$T/work.js"
	compare 'node, interpreted' '' node --jitless "$T/work.js"
fi

POSTGRES=/usr/lib/postgresql/15/bin
if wanted postgres && [ -x $POSTGRES/postgres ]; then
	chmod 711 "$T" # its user's way to its directory
	mkdir "$T/data"
	chown 65534 "$T/data"
	setpriv --reuid=65534 --clear-groups $POSTGRES/initdb -D "$T/data" --auth=trust >"$T/initdb" 2>&1 || fail "initdb" "$(tail -n 2 "$T/initdb")"
	echo "do \$\$ begin loop perform count(*) from generate_series(1, 3000) a where md5(a::text) like '%ab%' and sqrt(a)::numeric * 3 > 1;" \
		"perform pg_sleep(0.003); end loop; end \$\$;" >"$T/work.sql"
	# shellcheck disable=SC2016 # for that shell
	compare postgres '' bash -c 'exec setpriv --reuid=65534 --clear-groups "$0/postgres" --single -D "$1/data" postgres <"$1/work.sql"' \
		$POSTGRES "$T"
fi

if wanted redis && [ -x /usr/bin/redis-server ]; then
	# shellcheck disable=SC2016 # for that shell
	spawn bash -c 'cd "$0" && while :; do redis-cli -s sock eval "local n = 0 for i = 1, 100000 do n = n + #tostring(i) end return n" 0; sleep 0.003; done >redis.cli 2>&1' "$T"
	load=$SPAWNED
	compare redis '' /usr/bin/redis-server --port 0 --unixsocket "$T/sock" --save '' --hz 500
	kill "$load"
	wait "$load" 2>/dev/null
fi

cat >"$T/Work.java" <<'WORK'
import java.util.*;
public class Work {
	static long leaf(Map<String, Long> m, int i) { return m.merge("k" + i % 977, 1L, Long::sum); }
	static long middle(Map<String, Long> m, int depth, int i) { return depth > 0 ? middle(m, depth - 1, i) + 1 : leaf(m, i); }
	static void pause() throws Exception { Thread.sleep(2); }
	public static void main(String[] a) throws Exception {
		Map<String, Long> m = new TreeMap<>();
		for (int i = 0;; i++) { middle(m, i % 9, i); if (i % Integer.parseInt(a[0]) == 0) pause(); }
	}
}
WORK
if wanted java && javac -d "$T" "$T/Work.java" >"$T/javac" 2>&1; then
	compare 'java, interpreted' '' java -Xint -XX:+UseSerialGC -Xmx64m -cp "$T" Work 1000
	compare 'java, frame pointers kept' '' java -XX:+PreserveFramePointer -XX:+UseSerialGC -Xmx64m -cp "$T" Work 10000
	compare 'java, compiled' '' java -XX:+UseSerialGC -Xmx64m -cp "$T" Work 10000
fi

cat >"$T/work.go" <<'WORK'
package main

import (
	"sort"
	"strconv"
	"time"
)

//go:noinline
func work(n int) int {
	if n > 0 {
		return work(n-1) + 1
	}
	v := make([]string, 3000)
	for i := range v {
		v[i] = strconv.Itoa(i * 7919 % 3001)
	}
	sort.Strings(v)
	time.Sleep(2 * time.Millisecond)
	return len(v[7])
}

func main() {
	go func() {
		for {
			work(3)
		}
	}()
	for {
		work(6)
	}
}
WORK
if wanted go && command -v go >/dev/null; then
	export GOCACHE=$T/cache GO111MODULE=off
	export GOTRACEBACK=crash
	ulimit -c 0
	CGO_ENABLED=0 go build -o "$T/go_debug" "$T/work.go" && strip -o "$T/go" "$T/go_debug"
	# Of a function that calls itself the witness cannot tell how often it is there.
	CALLS=$T/go_debug compare 'go, stripped' "leaf's caller|leaf's caller in ours alone|another stack" "$T/go"
	# The same for the recorder; libdwfl finds .debug_frame in the file that the program names.
	objcopy --only-keep-debug "$T/go_debug" "$T/go.debug" && objcopy --add-gnu-debuglink="$T/go.debug" "$T/go" "$T/go_linked"
	CALLS=$T/go_debug ALIKE=99 compare 'go, stripped, .debug_frame for libdwfl' "leaf's caller|another stack" "$T/go_linked"
	CALLS=$T/go_debug ALIKE=99 compare 'go, with .debug_frame' "leaf's caller|another stack" "$T/go_debug"
	go build -ldflags -w -o "$T/go_cgo" "$ROOT/tests/helpers/unwind_victim.go" && CALLS=$T/go_cgo compare 'go, cgo' 'another stack' "$T/go_cgo" c-again
fi

cat >"$T/static.c" <<'WORK'
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
/* Most of musl's own code has no call frame information: stacks that begin there are that one frame. */
__attribute__((noinline)) static int own(int n)
{
	volatile int sum = n;
	for (int i = 0; i < 50000; i++) sum += i ^ n;
	return sum;
}
__attribute__((noinline)) static int leaf(int n)
{
	char *v[64], text[64][24];
	n += own(n) & 1;
	for (int i = 0; i < 64; i++) {
		snprintf(text[i], sizeof(text[i]), "%d.%f", (i * 7919 + n) % 1000, i / 3.0);
		v[i] = text[i];
	}
	qsort(v, 64, sizeof(*v), by_text);
	return atoi(v[3]) + (n % 32 ? 0 : poll(NULL, 0, 2));
}
__attribute__((noinline)) static int middle(int depth, int n) { return depth ? middle(depth - 1, n) + 1 : leaf(n); }
int main(void)
{
	long n = 0;
	for (int i = 0;; i++) n += middle(i % 9, i);
	return (int)n;
}
WORK
if wanted static && command -v musl-gcc >/dev/null; then
	musl-gcc -static -w -O2 -fno-optimize-sibling-calls -fasynchronous-unwind-tables -o "$T/static" "$T/static.c" && CODE=$T/static compare 'static, musl' '' "$T/static"
	gcc -static -w -O2 -fno-optimize-sibling-calls -o "$T/static_glibc" "$T/static.c" && compare 'static, glibc' '' "$T/static_glibc"
fi
stop_agent
finish
