#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What the agent cannot work with is refused with a message that says what, where and what to do.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

extra_cleanup() { umount "$TEST_TMP/full" 2>/dev/null; }
run() { # OPTIONS: output in $OUT, status in $RC
	OUT=$(timeout 30 "$STALLBOXD" --foreground --socket "$SOCKET" --spool "$SPOOL" --bpffs "$PINS" "$@" 2>&1)
	RC=$?
}
mkdir -p "$PINS"

touch "$TEST_TMP/file"
run --spool "$TEST_TMP/file/captures" --fallback "$TEST_TMP/file/other"
is "a spool that cannot be written is refused" "$RC" 1
like "with the directory and a hint" "$OUT" "file/captures.*hint:"

run --trigger 'psi:memory:ful:150ms/2s'
is "a wrong trigger is a usage error" "$RC" 2
like "that names the word" "$OUT" "unknown pressure 'ful', expected some or full"

run --bpffs "$TEST_TMP/file"
is "no bpffs is refused" "$RC" 1
like "with a hint" "$OUT" "bpffs.*hint: mount"

if command -v setpriv >/dev/null; then
	OUT=$(setpriv --bounding-set -all --inh-caps -all --ambient-caps -all "$STALLBOXD" --foreground --no-pin \
		--socket "$SOCKET" --spool "$SPOOL" --bpffs "$PINS" 2>&1)
	is "missing capabilities are refused" "$?" 1
	like "with what is needed" "$OUT" 'error: .*hint: .*(CAP_BPF|root)'
else
	skip "missing capabilities are refused" "setpriv is not installed"
fi

if unshare -m true 2>/dev/null; then
	OUT=$(unshare -m bash -c "mount -t tmpfs none /sys/kernel/btf && exec '$STALLBOXD' --foreground --no-pin --socket '$SOCKET' --spool '$SPOOL' --bpffs '$PINS'" 2>&1)
	is "a kernel without BTF is refused" "$?" 1
	like "with what is needed" "$OUT" 'CONFIG_DEBUG_INFO_BTF'
else
	skip "a kernel without BTF is refused" "mount namespaces are not allowed here"
fi

# A full spool: the bundle goes to the fallback directory, nothing is lost.
mkdir -p "$TEST_TMP/full"
if mount -t tmpfs -o size=64k none "$TEST_TMP/full" 2>/dev/null; then
	SPOOL=$TEST_TMP/full/captures start_agent --post 1s || { fail "agent starts"; finish; }
	head -c 65536 /dev/zero >"$TEST_TMP/full/filler" 2>/dev/null
	ok "a freeze with a full spool gives a bundle" freeze
	like "in the fallback directory" "$BUNDLE" fallback
	ok "and it is whole" "$STALLBOX" verify "$BUNDLE"
	stop_agent
else
	skip "a full spool" "tmpfs cannot be mounted here"
fi
ok "--features says what the kernel gives" bash -c "'$STALLBOXD' --features | grep -q '^required: all present'"
finish
