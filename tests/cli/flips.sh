#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A golden bundle with one bit wrong, or cut, everywhere: the reader reads what is whole, and every subcommand ends by
# itself in bounded memory. Some places in make test; LONG=1 (make check-flips): every bit and every cut, twenty minutes.
. "$(dirname "$0")/../lib.sh"
golden=$ROOT/tests/golden/v1.0/synthetic.stall.pb.zst

# Each line: what is done (tests/helpers/flips.c), at every which place.
short='
bits 7
bits split 13
cuts 1
cuts split 3
plain 97
bits views 997
cuts views 149
plain views 2999'
long='
bits split 1
cuts split 1
plain 1
bits views 1
cuts views 1
plain views 7'

# The places are dealt out: a process for each CPU.
everywhere() { # step words...
	local step=$1 jobs i pids=() failed=0
	shift
	jobs=$(nproc)
	for ((i = 0; i < jobs; i++)); do
		"$BUILD/tests/helpers/flips" "$golden" "$@" from=$((i * step)) step=$((step * jobs)) >"$TEST_TMP/flips.$i" 2>&1 &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i" || failed=1; done
	cat "$TEST_TMP"/flips.*
	return $failed
}

lines=$short
[ -z "${LONG:-}" ] || lines=$long
while read -r words; do
	[ -n "$words" ] || continue
	read -ra word <<<"$words"
	step=${word[-1]}
	unset 'word[-1]'
	ok "${word[*]}, every $step" everywhere "$step" "${word[@]}"
	sed 's/^/# /' "$TEST_TMP/.ok.out"
done <<<"$lines"
finish
