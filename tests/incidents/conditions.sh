#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The three stories again, each while ps hangs, beside 300 runnable threads a CPU, and with the file system of the captures
# frozen (make check-incidents LONG=1, a quarter of an hour).
#
# It proves: what each story's own test proves, with the same bounds, in these conditions.
. "$(dirname "$0")/../lib.sh"

if [ -z "${LONG:-}" ]; then
	skip "the stories while ps hangs, in a crowd, with a frozen disk" "the long form: make check-incidents LONG=1"
	finish
fi
for condition in ps crowd frozen; do
	for story in mmap_write softirq reclaim; do
		[ "$condition" != ps ] || [ $story != mmap_write ] || export PS_HANGS_MS=500
		CONDITION=$condition bash "$(dirname "$0")/$story.sh" >"$TEST_TMP/out" 2>&1
		unset PS_HANGS_MS
		grep -qE '^1\.\.[1-9]' "$TEST_TMP/out" || fail "$condition: $story: it ends with a plan" "$(tail -n 5 "$TEST_TMP/out")"
		while IFS= read -r line; do
			text=${line#* - }
			case $line in
			"not ok"*) fail "$condition: $story: $text" "$(grep -B12 -A6 -F -- "$line" "$TEST_TMP/out" | sed -n 's/^# //p')" ;;
			*"# SKIP"*) skip "$condition: $story: ${text%% \# SKIP*}" "${text##*\# SKIP }" ;;
			*) pass "$condition: $story: $text" ;;
			esac
		done < <(grep -E '^(not )?ok\b' "$TEST_TMP/out")
	done
done
finish
