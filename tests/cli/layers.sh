#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# tests/check-layers finds every include that points the wrong way, however it is written, and no other.
. "$(dirname "$0")/../lib.sh"

DIRS='bpf format unwind symbols triggers config recorder tools gateway upload'
# Who may include a header of whose directory, by its name alone where only some may be.
ALLOWED='bpf:unwind/layout unwind:format/base symbols:format/base symbols:unwind/table triggers:format/base config:format/base
	config:triggers/x recorder:bpf/x recorder:format/x recorder:unwind/x recorder:symbols/x recorder:triggers/x recorder:config/x
	tools:format/x tools:symbols/x tools:config/x gateway:format/x gateway:config/x upload:format/x upload:config/x'
found() { # DIR LINE: in a tree that has nothing but this
	rm -rf "$TEST_TMP/tree"
	mkdir -p "$TEST_TMP/tree/$1"
	printf '#include <stdio.h>\n%s\n' "$2" >"$TEST_TMP/tree/$1/a.c"
	! "$ROOT/tests/check-layers" "$TEST_TMP/tree" >"$TEST_TMP/said" 2>&1 && grep -qF "$1/a.c:2:" "$TEST_TMP/said"
}
wrong=
for d in $DIRS; do
	for other in $DIRS; do
		[ "$other" = "$d" ] || [[ $ALLOWED == *"$d:$other/x"* ]] || found "$d" "#include \"$other/x.h\"" || wrong+="$d->$other "
	done
done
is "every direction that is not allowed is told" "$wrong" ""
wrong=
for pair in $ALLOWED; do
	! found "${pair%%:*}" "#include \"${pair#*:}.h\"" || wrong+="$pair "
done
for d in $DIRS; do ! found "$d" "#include \"$d/x.h\"" || wrong+="$d "; done
is "those that are allowed are not" "$wrong" ""
for line in '#include "../recorder/ring.h"' '# include "recorder/ring.h"' '	#include"recorder/ring.h"' '#include <recorder/ring.h>' '#include "ring.h"'; do
	ok "told, too: $line" found tools "$line"
done
is "libbpf is not ours" "$(found recorder '#include <bpf/libbpf.h>' && echo told)" ""
ok "the tree itself" "$ROOT/tests/check-layers"
finish
