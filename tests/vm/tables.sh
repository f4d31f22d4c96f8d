#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# README's tables of kernels and of other tools are those of tests/vm/*.tsv, and what goes in there is what the machines found.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1

between_comments() { sed -n "/^<!-- $1:/,/^<!-- end of $1 -->/{//!p}" README.md; }
for t in tests/vm/*.tsv; do
	t=$(basename "$t" .tsv)
	is "README has the tables of tests/vm/$t.tsv (tests/vm/table --write)" "$(diff <(between_comments "$t") <(tests/vm/table "$t") | head -n 5)" ""
done
between "it has each kernel's release" "$(between_comments kernels | grep '^| release' | grep -oE '[0-9]+\.[0-9]+\.[0-9]+[^ ]*' | wc -l)" 4 4

# found RELEASE MISSING RESULT...: what a machine leaves.
found() {
	local dir=$TEST_TMP/out/0
	mkdir -p "$dir"
	echo "$1" >"$dir/release"
	echo 0x0000 >"$dir/lru_gen"
	echo 3 >"$dir/paranoid"
	jq -n --arg missing "$2" '{checks: ([{name: "agent", state: "degraded", found: "does not run", costs: "all"},
		{name: "psi", state: "ok", found: "can be read", costs: ""}, {name: "programs", state: "ok", found: "38 load and attach", costs: ""}] +
		if $missing == "" then [] else [{name: "evidence", state: "degraded", found: "no tracepoint", costs: $missing}] end)}' >"$dir/doctor.json"
	shift 2
	printf '%s\n' "$@" >"$dir/result"
}
tsv=$TEST_TMP/tsv
record() { tests/vm/record "$1" "$TEST_TMP/out" "$tsv"; }
row_of() { tests/vm/table kernels "$tsv" | grep -F "| $1 |"; }
found 5.10.0-1 'waits for locks' 'bpf      records      11 passed   1 failed   0 skipped    23 s' \
	'bpf      locks         0 passed   0 failed   1 skipped    2 s' '' 'skipped:' '  bpf/locks: ok 1 - who waits # SKIP no lock tracepoints' ''
record 5.10
found 6.1.0-1 '' 'bpf      records      12 passed   0 failed   0 skipped    23 s' 'bpf      locks         5 passed   0 failed   0 skipped    2 s'
record 6.1
is "what one lacks and the other has" "$(row_of 'waits for locks')" '| waits for locks | no tracepoint | **no** | yes |'
is "checks that failed and were skipped are told" "$(row_of 'their checks that pass')" \
	'| their checks that pass |  | 11 of 12 (not all of bpf/records), 1 skipped | 17 of 17, 0 skipped |'
like "why one was skipped is kept" "$(cat "$tsv")" $'5.10\tskip\tbpf/locks\twho waits # SKIP no lock tracepoints'
is "the agent that does not run is none of the kernel's" "$(grep -c agent "$tsv")" 0
found 5.10.0-1 '' 'bpf      records      12 passed   0 failed   0 skipped    23 s'
record 5.10
is "another run of some tests takes the place of theirs alone" "$(awk -F '\t' '$1 == "5.10" && ($2 == "test" || $2 == "lacks") {print $3, $4}' "$tsv" | tr '\n' ';')" \
	'bpf/locks 0 passed, 0 failed, 1 skipped;bpf/records 12 passed, 0 failed, 0 skipped;'
found 5.10.0-2 '' ''
record 5.10
is "of another release nothing is kept" "$(awk -F '\t' '$1 == "5.10" && $2 == "test"' "$tsv")" ""
found 5.10.0-2 'exit times' 'bpf      locks         1 passed   0 failed   1 skipped    2 s' 'skipped:' '  bpf/locks: ok 1 - who waits # SKIP not allowed'
record 5.10+lockdown
is "a variant is told by what it changes" "$(row_of 5.10+lockdown)" '| 5.10+lockdown | no exit times: no tracepoint; not allowed | 1: 1 of 1, 1 skipped |'
printf '#\nmmap_lock\tperf_fresh\t24.1\t1\t34\tno\tafter the stall was over\nreclaim\tperf_fresh\t2.5\t40\t42\t-\t\n' >"$TEST_TMP/peers"
is "another tool's row" "$(tests/vm/table peers "$TEST_TMP/peers" | tail -n 1)" \
	'| `perf record -a -g sleep 1`, `perf script` | 24.1 (after the stall was over) | 1 of 34 | no | 2.5 | 40 of 42 |'
rm "$TEST_TMP/out/0/doctor.json"
echo 'no such thing' >"$TEST_TMP/out/0/cannot"
record 5.10+cgroup1
is "a kernel that cannot be a variant says why" "$(row_of 5.10+cgroup1)" '| 5.10+cgroup1 | this kernel cannot be that: no such thing | |'
rm "$TEST_TMP/out/0/cannot"
ok "a machine that found nothing is a failure" bash -c "! tests/vm/record 6.1 '$TEST_TMP/out' '$tsv'"
finish
