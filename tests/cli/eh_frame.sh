#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# EH_FRAME=no leaves unwind/ out of everything that is built; without it, it is there.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1

plan() { make -n V=1 B="$TEST_TMP/none" "$@" tests-bin 2>&1; }
with=$(plan)
without=$(plan EH_FRAME=no)
like 'by default unwind/ is compiled' "$with" ' -c unwind/cfi\.c '
like 'by default its tests are' "$with" ' -c tests/unit/test_cfi\.c '
like 'without it the agent is still built' "$without" ' -c recorder/agent\.c '
is 'without it nothing of unwind/ is compiled or linked' \
	"$(grep -oE '[^ ]*(unwind[/_]|test_cfi|elf_cfi)[^ ]*\.(c|o)' <<<"$without" | sort -u)" ''
like 'NOTICE says how' "$(cat NOTICE)" 'make EH_FRAME=no'

if command -v aarch64-linux-gnu-gcc >/dev/null; then
	for f in unwind/*.c; do
		ok "$f compiles for arm64" aarch64-linux-gnu-gcc -D_GNU_SOURCE -I. -std=gnu11 -O2 -Wall -Wextra -Werror \
			-c "$f" -o "$TEST_TMP/arm64.o"
	done
else
	skip 'unwind/ compiles for arm64' 'aarch64-linux-gnu-gcc'
fi
finish
