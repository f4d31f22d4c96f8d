#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Part of `make test`: some root tests on another kernel than this machine's (tests/vm/check: short). Every
# check inside is a check here. STALLBOX_VM_KERNELS="5.10 6.1" runs others.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1

if ! command -v qemu-system-x86_64 >/dev/null; then
	skip "root tests on other kernels" "qemu-system-x86 is not installed"
	finish
fi
# DIR of a machine that did not end: the test that ran, and a line for each thread that its kernel
# called blocked or running (console: sysrq w and l), innermost function first.
why_no_end() {
	local log
	log=$(ls -t "$1"/logs/*.log 2>/dev/null | head -n 1)
	tail -n 1 "$1/result"
	echo "it ran $(basename "${log:-nothing}" .log): $(tail -n 1 "$log" | cut -c1-120)"
	[ -e "$1/console" ] || return 0
	sed -E 's/\r$//; s/^\[[^]]*\] //; s/\+0x[0-9a-f/x]+//' "$1/console" | awk '
		function flush() { if (who != "") print substr(who ": " stack, 1, 200); who = "" }
		/^task:/ { flush(); who = $1 " " $2; stack = "" }
		/^CPU: .* Comm: / { flush(); who = $0; stack = "" }
		/^ +[a-z_0-9.]+$/ && who != "" { stack = stack (stack == "" ? "" : " < ") $1 }
		END { flush() }' | head -n 9
}
for k in ${STALLBOX_VM_KERNELS:-6.1}; do
	if ! tests/vm/get-kernel "$k" >"$TEST_TMP/get" 2>&1; then
		skip "root tests on kernel $k" "the kernel package cannot be had: $(tail -n 1 "$TEST_TMP/get")"
		continue
	fi
	# An emulated machine uses one CPU: two of them share the tests, side by side where other tests beside them have one, too.
	RECORD=no VM_PARTS=2 VM_JOBS=${VM_JOBS:-$(($(nproc) > 2 ? 2 : 1))} VM_TIMEOUT=1800 tests/vm/check "$k" short >"$TEST_TMP/out" 2>&1
	for part in 0 1; do
		case $(cat "build/vm/$k/$part/rc") in
		0 | 1) pass "kernel $k boots and runs the tests (part $part)" ;;
		*) fail "kernel $k boots and runs the tests (part $part)" "$(why_no_end "build/vm/$k/$part")" ;;
		esac
		grep 'the emulator stood still' "build/vm/$k/$part/result" | sed 's/^/# /'
	done
	for log in build/vm/"$k"/logs/*.log; do
		name=$(basename "$log" .log)
		while IFS= read -r line; do
			text=${line#* - }
			case $line in
			"not ok"*) fail "$k $name: $text" "$(grep -A6 -F -- "$line" "$log" | tail -n +2 | head -n 6)" ;;
			*"# SKIP"*) skip "$k $name: ${text%% \# SKIP*}" "${text##*\# SKIP }" ;;
			*) pass "$k $name: $text" ;;
			esac
		done < <(grep -E '^(not )?ok\b' "$log")
	done
done
finish
