#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The walk of unwind/walk.h passes the verifier of this kernel.
. "$(dirname "$0")/../lib.sh"
[ -e "$BUILD/tests/bpf/unwind_walk.bpf.o" ] || { echo "skip: built with EH_FRAME=no"; exit 77; }
bpftool=$(command -v bpftool || echo /usr/sbin/bpftool)
pins=$TEST_TMP/bpf
mkdir "$pins"
mount -t bpf bpf "$pins" || { echo "skip: no bpffs"; exit 77; }
test_cleanup() { umount "$pins"; }

ok "the verifier takes the walk" "$bpftool" prog load "$BUILD/tests/bpf/unwind_walk.bpf.o" "$pins/walk"
like "it is there" "$("$bpftool" prog show pinned "$pins/walk")" 'raw_tracepoint +name walk_at_sys_ent'
finish
