#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Inlined functions and source lines of programs whose inlining is known, from their DWARF by build-id.
. "$(dirname "$0")/../lib.sh"

MAKE=$BUILD/tests/helpers/make_unnamed
ldd "$STALLBOX" | grep -q libdw || { echo "1..0 # SKIP built with LIBDW=no"; exit 77; }
cd "$TEST_TMP" || exit 1
mkdir src
cat >src/shop.cc <<'CC'
#include <cstdlib>
#define INLINE static inline __attribute__((always_inline))
#define ALONE __attribute__((noinline))
namespace shop {
ALONE void wait_for(volatile int *n)
{
	while (*n)
		*n -= 1;
}
template <class T> INLINE void
pick(volatile T *n)
{
	*n += 3;
	wait_for(n);
	*n += 4;
}
struct basket {
	volatile int n;
	INLINE_METHOD void pack();
	ALONE void fill();
};
INLINE_METHOD void basket::pack()
{
	pick(&n);
}
void basket::fill()
{
	pack();
	n += 1;
}
}
int main(int argc, char **)
{
	static shop::basket b = { argc };
	b.fill();
}
CC
sed -i 's/INLINE_METHOD/inline __attribute__((always_inline))/' src/shop.cc
line_of() { grep -n "$1" src/shop.cc | tail -n 1 | cut -d: -f1; }
code_of() { readelf -lW "$1" | awk '$1 == "LOAD" && $8 == "E" { sub(/^0x0*/, "", $2); print $2; exit }'; }
# Behind the call of wait_for() in basket::fill(), in a program whose offsets are its addresses.
after_call() {
	objdump -d --no-show-raw-insn "$1" | awk '/<_ZN4shop6basket4fillEv>:/ { in_it = 1 } /^$/ { in_it = 0 }
		was { sub(":", "", $1); print $1; exit } in_it && /call.*wait_for/ { was = 1 }'
}
start_of() { nm "$1" | awk -v n="$2" '$3 == n { sub(/^0+/, "", $1); print $1 }'; }

want="prog;shop::basket::fill shop.cc:$(line_of '	pack();');shop::basket::pack shop.cc:$(line_of 'pick(&n)');shop::pick<int> shop.cc:$(line_of 'wait_for(n)');shop::wait_for shop.cc:"
compilers='g++ -O2 -g|g++ -O2 -gdwarf-4|g++ -O3 -g -gsplit-dwarf|g++ -O1 -g -gz'
command -v clang++ >/dev/null && compilers="$compilers|clang++ -O2 -g"
IFS='|'
i=0
for how in $compilers; do
	i=$((i + 1))
	if ! sh -c "$how -fno-optimize-sibling-calls -Wl,--build-id -o p$i src/shop.cc" 2>cc.err; then
		skip "$how" "$(head -n 1 cc.err)"
		continue
	fi
	IFS=$' \t\n'
	"$MAKE" "u$i" "p$i" "/srv/p$i" "$(code_of "p$i")" "$(start_of "p$i" _ZN4shop8wait_forEPVi)" "$(after_call "p$i")"
	mkdir -p "root$i/srv"
	cp "p$i" "root$i/srv/p$i"
	ok "$how: a bundle gets lines" "$STALLBOX" symbolize --debug-dir "root$i" "u$i"
	is "what stands there, outermost first" "$("$STALLBOX" fold --lines "u$i" | sed 's/:[0-9]* [0-9]*$/:/')" "$want"
	IFS='|'
done
IFS=$' \t\n'

# The functions alone, in every view.
is "collapsed stacks have inlined functions" "$("$STALLBOX" fold u1)" \
	'prog;shop::basket::fill;shop::basket::pack;shop::pick<int>;shop::wait_for 1'
is "lists of events say which are" "$("$STALLBOX" events u1 | grep -c '(inlined)$')" 2
like "and so does the order" "$("$STALLBOX" order --lines u1)" 'shop::pick<int> shop\.cc:[0-9]+ < shop::basket::pack shop\.cc:'
like "perf script's form too" "$("$STALLBOX" export --format perf-script u1)" 'shop::basket::pack \(inlined\)'
is "and ndjson, with paths" "$("$STALLBOX" export --format ndjson u1 | jq -r 'select(.type == "stack") | .frames[1].source | map("\(.file | sub(".*/"; "")):\(.line)") | join(" ")')" \
	"shop.cc:$(line_of 'wait_for(n)') shop.cc:$(line_of 'pick(&n)') shop.cc:$(line_of '	pack();')"
ok "a picture" "$STALLBOX" flame -o x.svg u1
ok "has the inlined functions" grep -q 'shop::basket::pack' x.svg
ok "the bundle is whole" "$STALLBOX" verify u1
ok "stock tools read it" sh -c 'zstd -dc "$1" | protoc --proto_path="$2/format" --decode=stallbox.v1.Capture capture.proto | grep -q "^  lines {"' \
	sh u1 "$ROOT"
cp u1 again
like "a second time there is nothing to do" "$("$STALLBOX" symbolize --debug-dir root1 again 2>&1)" '^0 of 0 functions'
ok "and nothing is written" cmp u1 again

# Every byte of the code, against LLVM's reader, which says the last part of a name.
truth() { llvm-symbolizer --functions=short -e "$1" "$2" | awk 'NF { name = $0; getline; sub(".*/", ""); sub(/:[0-9]*$/, ""); print name " " $0 }' | tac | paste -sd';'; }
mkdir bytes
from=$((0x$(start_of p1 _ZN4shop6basket4fillEv))) to=$(after_call p1)
different='' n=0
for ((a = from; a < 0x$to + 8; a++)); do
	at=$(printf '%x' $a)
	"$MAKE" bytes/u p1 /srv/p1 "$(code_of p1)" "$at"
	"$STALLBOX" symbolize --debug-dir root1 bytes/u 2>/dev/null
	ours=$("$STALLBOX" fold --lines bytes/u | sed 's/^prog;//; s/ [0-9]*$//; s/shop:://g; s/basket:://g')
	[ "$ours" = "$(truth p1 "0x$at")" ] || different="$different $at: $ours / $(truth p1 "0x$at")"
	case $ours in *'pick<int>'*) n=$((n + 1)) ;; esac
done
is "llvm-symbolizer says the same of $((0x$to + 8 - from)) addresses" "$different" ''
between "in inlined code too" $n 10 100

# Detached, by build-id, and by the name that the file tells.
id=$(readelf -nW p1 | sed -n 's/.*Build ID: *//p')
mkdir -p "byid/.build-id/${id:0:2}" link/srv linkdir/srv/.debug guess/srv foreign/srv
objcopy --only-keep-debug p1 odd.dbg
cp odd.dbg "byid/.build-id/${id:0:2}/${id:2}.debug"
strip -o bare p1
objcopy --add-gnu-debuglink=odd.dbg bare linked
cp linked link/srv/p1
cp odd.dbg link/srv/odd.dbg
cp linked linkdir/srv/p1
cp odd.dbg linkdir/srv/.debug/odd.dbg
cp odd.dbg guess/srv/p1.debug
cp linked foreign/srv/p1
objcopy --only-keep-debug p2 foreign/srv/odd.dbg # another build
fresh() { "$MAKE" "$1" p1 /srv/p1 "$(code_of p1)" "$(start_of p1 _ZN4shop8wait_forEPVi)" "$(after_call p1)"; }
for d in byid link linkdir guess; do
	fresh $d.zst
	ok "symbols in $d/" "$STALLBOX" symbolize --debug-dir $d $d.zst
	is "give the same" "$("$STALLBOX" fold --lines $d.zst)" "$("$STALLBOX" fold --lines u1)"
done
fresh foreign.zst
"$STALLBOX" symbolize --debug-dir foreign foreign.zst 2>err
is "those of another build give nothing" "$("$STALLBOX" fold foreign.zst | grep -c 'basket::')" 0
fresh names.zst
ok "names alone" "$STALLBOX" symbolize --names-only --debug-dir root1 names.zst
is "have no inlined functions" "$("$STALLBOX" fold --lines names.zst)" 'prog;shop::basket::fill;shop::wait_for 1'
ok "which come later" "$STALLBOX" symbolize --debug-dir root1 names.zst
is "and are the same" "$("$STALLBOX" fold --lines names.zst)" "$("$STALLBOX" fold --lines u1)"
# DWARF that is none.
fresh broken.zst
mkdir -p broken/srv
python3 - p1 broken/srv/p1 <<'PY'
import random, subprocess, sys
data = bytearray(open(sys.argv[1], 'rb').read())
for line in subprocess.check_output(['readelf', '-SW', sys.argv[1]], text=True).splitlines():
    part = line.replace('[ ', '[').split()
    if len(part) > 5 and part[1].startswith('.debug_'):
        off, size = int(part[4], 16), int(part[5], 16)
        random.seed(size)
        for _ in range(size // 4):
            data[off + random.randrange(size)] = random.randrange(256)
open(sys.argv[2], 'wb').write(data)
PY
"$STALLBOX" symbolize --debug-dir broken broken.zst 2>err
is "damaged DWARF ends nothing" "$(($? & 128))" 0
like "names are there all the same" "$("$STALLBOX" fold broken.zst)" 'basket::fill'
# A section that says that it unpacks to 3 GiB.
fresh bomb.zst
mkdir -p bomb/srv
objcopy --compress-debug-sections=zlib-gabi p1 bomb/srv/p1
python3 - bomb/srv/p1 <<'PY'
import struct, subprocess, sys
for line in subprocess.check_output(['readelf', '-SW', sys.argv[1]], text=True).splitlines():
    part = line.replace('[ ', '[').split()
    if len(part) > 5 and part[1] == '.debug_info':
        with open(sys.argv[1], 'r+b') as f:
            f.seek(int(part[4], 16) + 8)
            f.write(struct.pack('<Q', 3 << 30))
PY
"$STALLBOX" symbolize --debug-dir bomb bomb.zst 2>err
like "more than is reasonable is left out and told" "$(cat err)" "source lines of '/srv/p1' are left out: its debug information is more than 1024 MiB"
like "names are there all the same" "$("$STALLBOX" fold bomb.zst)" 'basket::fill'
# The same that it is: with all of its zeros, in a few MiB.
python3 - bomb/real.z <<'PY'
import struct, sys, zlib
z, zeros = zlib.compressobj(1), bytes(1 << 20)
with open(sys.argv[1], 'wb') as f:
    first, again = (z.compress(zeros) + z.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    f.write(b'ZLIB' + struct.pack('>Q', 1100 << 20) + first + again * 1099 + z.flush())
PY
objcopy --remove-section .debug_info --add-section .zdebug_info=bomb/real.z p1 bomb/srv/p1
fresh bomb2.zst
between "nor is it unpacked, KiB" "$(python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], stderr=open("err", "w"))
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$STALLBOX" symbolize --debug-dir bomb bomb2.zst)" 1000 300000
like "by its old name either" "$(cat err)" 'debug information is more than 1024 MiB'
finish
