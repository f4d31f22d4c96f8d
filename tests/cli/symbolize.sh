#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Names that the recording host did not have, from symbols by build-id.
. "$(dirname "$0")/../lib.sh"

MAKE=$BUILD/tests/helpers/make_unnamed
cd "$TEST_TMP" || exit 1
mkdir src
cat >src/prog.cc <<'CC'
#include <cstdlib>
#include <vector>
namespace shop {
template <class T> __attribute__((noinline, noclone)) T total(const std::vector<T> &v)
{
	T sum = 0;
	for (auto &x : v)
		sum += x;
	return sum;
}
/* Its last instruction is the call. */
__attribute__((noinline, noclone)) void checkout(int n) { std::exit(total(std::vector<int>(n))); }
}
static __attribute__((noinline, noclone)) void serve(int n) { shop::checkout(n); }
int main(int argc, char **) { serve(argc); }
CC
if ! g++ -O1 -Wl,--build-id -o src/prog src/prog.cc 2>gcc.err; then
	echo "1..0 # SKIP no C++ compiler: $(head -n 1 gcc.err)"
	exit 77
fi
objcopy --only-keep-debug src/prog prog.debug
strip -o stripped src/prog
# start NAME: its address, which in this file is its offset too
start() { nm src/prog | awk -v n="$1" '$3 ~ n { sub(/^0+/, "", $1); print $1; exit }'; }
size() { nm -S src/prog | awk -v n="$1" '$4 ~ n { print $2; exit }'; }
plus() { printf '%x' $((0x$1 + 0x$2)); }
# The end of checkout() is the beginning of what follows.
callers="$(plus "$(start checkout)" "$(size checkout)") $(plus "$(start serve)" 5) $(plus "$(start '^main$')" 5)"
code=$(readelf -lW src/prog | awk '$1 == "LOAD" && $8 == "E" { sub(/^0x0*/, "", $2); print $2; exit }')
# shellcheck disable=SC2086 # a list
unnamed() { "$MAKE" "$1" src/prog /srv/away/prog "$code" "$(plus "$(start total)" 3)" $callers; }
unnamed u.zst
id=$(readelf -nW src/prog | sed -n 's/.*Build ID: *//p')
want='prog;main;serve;shop::checkout;shop::total<int> 1'
fold() { "$STALLBOX" fold --kind on-cpu "$1"; }
fold u.zst | sed 's/^/# without names: /'
like "nothing has a name" "$(fold u.zst)" '^prog;prog\+0x[0-9a-f]+;prog\+0x'
cp u.zst kept.zst

mkdir none
is "no symbols: exit status 3" "$("$STALLBOX" symbolize --debug-dir "$TEST_TMP/none" u.zst >out 2>&1; echo $?)" 3
like "and a line says which" "$(cat out)" "4 of 4 functions of '/srv/away/prog' have no name: no symbols with its build-id"
ok "the bundle is as it was" cmp u.zst kept.zst

mkdir -p "debug/.build-id/${id:0:2}" "exe/.build-id/${id:0:2}" bare/srv/away mixed/srv/away wrong/srv/away
cp prog.debug "debug/.build-id/${id:0:2}/${id:2}.debug"
cp src/prog "exe/.build-id/${id:0:2}/${id:2}"
cp src/prog bare/srv/away/prog
cp stripped mixed/srv/away/prog
mkdir -p "mixed/.build-id/${id:0:2}"
cp prog.debug "mixed/.build-id/${id:0:2}/${id:2}.debug"
sed 's/shop/shed/' src/prog.cc >src/other.cc
g++ -O1 -Wl,--build-id -o wrong/srv/away/prog src/other.cc
for d in debug exe bare mixed; do
	ok "symbols in $d/" "$STALLBOX" symbolize --debug-dir $d -o $d.zst u.zst
	is "name every frame" "$(fold $d.zst | sed 's/ [0-9]*$/ 1/')" "$want"
	ok "the bundle is whole" "$STALLBOX" verify $d.zst
done
ok "the first one is as it was" cmp u.zst kept.zst
is "another program of that path is none" "$("$STALLBOX" symbolize --debug-dir wrong u.zst >out 2>&1; echo $?)" 3

# Functions of a stripped file alone: told apart by where they start.
mkdir -p starts/srv/away
cp stripped starts/srv/away/prog
"$STALLBOX" symbolize --debug-dir starts -o starts.zst u.zst 2>/dev/null
if "$STALLBOXD" --features 2>/dev/null | grep -q eh_frame || [ -e "$BUILD/tests/unit/test_cfi" ]; then
	is "starts of functions" "$(fold starts.zst | sed 's/ [0-9]*$//')" "prog;prog+0x$(start '^main$');prog+0x$(start serve);prog+0x$(start checkout);prog+0x$(start total)"
fi

# And of code that has no name in symbols that lie apart, either: the file itself is looked for.
if [ -e "$BUILD/tests/unit/test_cfi" ]; then
	plt=$(readelf -SW src/prog | awk '$2 == ".plt" || $3 == ".plt" { for (i = 1; i < NF; i++) if ($i == "PROGBITS") { sub(/^0+/, "", $(i + 1)); print $(i + 1) } }')
	# shellcheck disable=SC2086 # a list
	"$MAKE" plt.zst src/prog /srv/away/prog "$code" "$(plus "$plt" 26)" $callers
	for d in bare mixed; do
		"$STALLBOX" symbolize --debug-dir $d -o plt-$d.zst plt.zst 2>/dev/null
		is "the start of the PLT, in $d/" "$(fold plt-$d.zst | sed 's/.*;//; s/ [0-9]*$//')" "prog+0x$plt"
	done
fi

# A stripped Go program has the names that its own runtime needs.
if command -v go >/dev/null && [ -e "$BUILD/tests/unit/test_cfi" ]; then
	mkdir -p go/srv/away
	cat >src/prog.go <<-'GO'
		package main

		import "os"

		//go:noinline
		func serve(n int) int { return n + 1 }

		func main() { os.Exit(serve(len(os.Args))) }
	GO
	go_build() { CGO_ENABLED=0 GOCACHE=$TEST_TMP/cache GO111MODULE=off go build -ldflags "-B 0x00112233445566778899aabbccddeeff00112233 $1" -o "$2" src/prog.go; }
	ok "Go builds" go_build '' src/go
	ok "and strips" go_build '-s -w' go/srv/away/prog
	is "it has no symbols" "$(nm go/srv/away/prog 2>/dev/null | wc -l)" 0
	read -r code first <<<"$(readelf -lW src/go | awk '$1 == "LOAD" && $8 == "E" { print $2, $3; exit }')"
	# in_go NAME PLUS: where that is in the file
	in_go() { printf '%x' $((0x$(nm src/go | awk -v n="$1" '$3 == n { print $1 }') - first + code + $2)); }
	"$MAKE" go.zst go/srv/away/prog /srv/away/prog "${code#0x}" "$(in_go main.serve 1)" "$(in_go main.main 9)" "$(in_go runtime.main 9)" \
		"$(in_go runtime.goexit.abi0 1)"
	ok "a stripped Go program has names" "$STALLBOX" symbolize --debug-dir go go.zst
	is "of every frame" "$(fold go.zst | sed 's/ [0-9]*$//')" 'prog;runtime.goexit;runtime.main;main.main;main.serve'
else
	skip "a stripped Go program has names" "no go command (Debian package golang-go), or built with EH_FRAME=no"
fi

ok "in place" "$STALLBOX" symbolize --debug-dir debug u.zst
is "the same names" "$(fold u.zst)" "$(fold debug.zst)"
ok "nothing else was changed" cmp -n "$(stat -c %s kept.zst)" u.zst kept.zst
like "a second time finds nothing to do" "$("$STALLBOX" symbolize --debug-dir debug u.zst 2>&1)" '^0 of 0 functions'
ok "stock tools read it" sh -c 'zstd -dc "$1" | protoc --proto_path="$2/format" --decode=stallbox.v1.Capture capture.proto >/dev/null' \
	sh u.zst "$ROOT"
unnamed cut.zst
head -c -5 cut.zst >damaged.zst
is "a damaged one is refused" "$("$STALLBOX" symbolize --debug-dir debug damaged.zst >out 2>&1; echo $?)" 1
like "with what to do" "$(cat out)" 'stallbox recover'
is "no bundle: usage" "$("$STALLBOX" symbolize >/dev/null 2>&1; echo $?)" 2
is "no file" "$("$STALLBOX" symbolize none.zst >/dev/null 2>&1; echo $?)" 3
cp kept.zst self.zst
ok "a copy onto itself" "$STALLBOX" symbolize --debug-dir debug -o self.zst self.zst
is "is the bundle with its names" "$(fold self.zst | sed 's/ [0-9]*$/ 1/')" "$want"
cp kept.zst self.zst
ln -s self.zst link.zst
ok "or by another name" "$STALLBOX" symbolize --debug-dir debug -o link.zst self.zst
is "is that, too" "$(fold self.zst | sed 's/ [0-9]*$/ 1/')" "$want"
# Not /dev/stdout itself, of which a mistake would leave nothing.
ln -s /proc/self/fd/1 output
ok "a copy to a pipe" sh -c '"$1" symbolize --debug-dir debug -o output kept.zst | cat >piped.zst' sh "$STALLBOX"
ok "which is still there" test -L output
is "has the names" "$(fold piped.zst | sed 's/ [0-9]*$/ 1/')" "$want"
is "a directory of symbols that is none: exit status 3" "$("$STALLBOX" symbolize --debug-dir no_dir kept.zst >out 2>&1; echo $?)" 3
is "is said" "$(cat out)" "error: cannot look for symbols in --debug-dir 'no_dir': No such file or directory"
is "nor is a file one" "$("$STALLBOX" symbolize --debug-dir kept.zst kept.zst 2>&1)" "error: cannot look for symbols in --debug-dir 'kept.zst': Not a directory"
is "nowhere to write" "$("$STALLBOX" symbolize --debug-dir debug -o /proc/none kept.zst >/dev/null 2>&1; echo $?)" 1

# What fails on the way costs nothing that was there.
# In a build with sanitizers: LeakSanitizer does not run under strace.
traced() { ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 strace -f -qq -o trace "$@"; }
# failing CALL OCCURRENCE OPTIONS...: of `faulty.zst`, or the file that --output names
failing() {
	traced -P "${FAULTY:-faulty.zst}" -e "trace=$1" -e "inject=$1:error=ENOSPC:when=$2" \
		"$STALLBOX" symbolize --debug-dir debug "${@:3}" >out 2>&1
}
if command -v strace >/dev/null; then
	for call in lseek write fsync; do
		cp kept.zst faulty.zst
		traced -P faulty.zst -e "trace=$call" "$STALLBOX" symbolize --debug-dir debug faulty.zst 2>/dev/null
		n=$(grep -c "$call(" trace)
		between "adding names calls $call" "$n" 1 10
		cp kept.zst faulty.zst
		failing "$call" "$n" faulty.zst
		is "the last $call fails: exit status 1" $? 1
		like "is said" "$(cat out)" "cannot write names to 'faulty.zst': No space left on device"
		ok "the bundle is as it was" cmp faulty.zst kept.zst
	done
	: >half.zst
	FAULTY=half.zst failing write 1 -o half.zst kept.zst
	is "a copy that cannot be written: exit status 1" $? 1
	is "is not there" "$(ls half.zst 2>&1)" "ls: cannot access 'half.zst': No such file or directory"
else
	skip "what fails on the way costs nothing" "no strace"
fi

# A server of symbols.
if command -v debuginfod-find >/dev/null; then
	mkdir -p "www/buildid/$id"
	cp prog.debug "www/buildid/$id/debuginfo"
	python3 -u -m http.server --bind 127.0.0.1 --directory www 0 >server.log 2>&1 &
	TEST_PIDS+=($!)
	wait_for 30 grep -q 'port [0-9]' server.log
	port=$(sed -n 's/.*port \([0-9]*\).*/\1/p' server.log | head -n 1)
	export DEBUGINFOD_URLS="http://127.0.0.1:$port" DEBUGINFOD_CACHE_PATH=$TEST_TMP/cache
	ok "symbols of a debuginfod server" "$STALLBOX" symbolize --debug-dir none --debuginfod -o server.zst kept.zst
	is "name every frame" "$(fold server.zst | sed 's/ [0-9]*$/ 1/')" "$want"
	is "asked for once" "$(grep -c "GET /buildid/$id/debuginfo" server.log)" 1
	# What goes wrong: it has none, there is none, it says nothing, nobody said which.
	ask() { DEBUGINFOD_CACHE_PATH=$(mktemp -d "$TEST_TMP/empty.XXXX") "$STALLBOX" symbolize --debug-dir none --debuginfod -o server2.zst kept.zst >out 2>&1; echo $?; }
	mv www/buildid www/elsewhere
	is "a server without them: exit status 3" "$(ask)" 3
	like "and a line that says it" "$(cat out)" 'no symbols with its build-id were found, and the servers have none'
	is "it was asked once more" "$(grep -c "GET /buildid/$id/debuginfo" server.log)" 2
	export DEBUGINFOD_URLS=http://127.0.0.1:1
	is "a server that is not there: exit status 1" "$(ask)" 1
	is "is said once" "$(grep -c "no answer from the debuginfod servers 'http://127.0.0.1:1': .*Connection refused" out)" 1
	python3 -u -c 'import socket, time; s = socket.create_server(("127.0.0.1", 0)); print("port", s.getsockname()[1]); time.sleep(600)' >silent.log &
	TEST_PIDS+=($!)
	wait_for 30 grep -q 'port [0-9]' silent.log
	DEBUGINFOD_URLS=http://127.0.0.1:$(sed -n 's/port //p' silent.log)
	is "one that says nothing is not waited for for ever" "$(DEBUGINFOD_TIMEOUT=1 ask)" 1
	like "and it is said" "$(cat out)" 'no answer from the debuginfod servers .*Timer expired'
	unset DEBUGINFOD_URLS
	is "no server named: exit status 2" "$(ask)" 2
	like "with what to do" "$(cat out)" 'DEBUGINFOD_URLS names no server'
else
	skip "symbols of a debuginfod server" "no debuginfod-find (package debuginfod)"
fi

# Kernel addresses: of another boot by a copy of its list, given by hand.
printf '%s\n' 'ffffffff81000000 T _text' 'ffffffff81001000 T do_one' 'ffffffff81002000 T do_two' 'ffffffff81003000 T the_end' >kallsyms
"$MAKE" k.zst boot x 0 ffffffff81001010 ffffffff81002020
ok "kernel names from a list" "$STALLBOX" symbolize --kallsyms kallsyms -o k2.zst k.zst
is "are there" "$(fold k2.zst | sed 's/ [0-9]*$//')" 'prog;do_two_[k];do_one_[k]'
is "a list that is none" "$("$STALLBOX" symbolize --kallsyms none k.zst >/dev/null 2>&1; echo $?)" 1
is "that it is none is all that it says" "$("$STALLBOX" symbolize --kallsyms none -o k3.zst k.zst 2>&1)" "error: cannot read 'none': Is a directory"
is "one that is not there" "$("$STALLBOX" symbolize --kallsyms away -o k3.zst k.zst 2>&1; echo $?)" "error: cannot read --kallsyms 'away': No such file or directory
3"
echo precious >there
is "nor does it cost what stood where the copy goes" "$("$STALLBOX" symbolize --kallsyms none -o there k.zst >/dev/null 2>&1; echo $?; cat there)" "1
precious"
finish
