#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The tables and the picture of make bench, from measurements that are made up: intervals of known pairs, what is
# missing is said and never 0, and a budget inside an interval is neither met nor not met.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1
command -v python3 >/dev/null || {
	echo "1..0 # SKIP python3 is not installed"
	exit 77
}
raw=$TEST_TMP/raw
put() { local IFS=$'\t'; printf '%s\n' "$*" >>"$raw"; }
report() { tests/bench/report "$raw" "$TEST_TMP/r.md" "$TEST_TMP/r.svg" >"$TEST_TMP/out" 2>&1; }
line() { grep -F -- "$1" "$TEST_TMP/r.md" | head -n "${2:-1}" | tail -n 1; }
cell() { line "$1" | cut -d'|' -f"$2" | sed 's/^ *//; s/ *$//'; }

put host cpus 4
put host kernel 'Linux <&> 6.1'
# Ten pairs; ln of the ratios 1 to 10 percent. Wilcoxon's table for n = 10 at 95 %: 8. So the interval ends with the
# ninth of the 55 averages from either end: 1 1.5 2 2 2.5 2.5 3 3 3 ... and 5.5 is their middle.
for i in 1 2 3 4 5 6 7 8 9 10; do
	put value make none $i 2
	put value make stallbox $i "$(awk -v i=$i 'BEGIN {printf "%.9f", 2 * exp(i / 100)}')"
	put value redis none $i 10
	put value redis stallbox $i "$(awk -v i=$i 'BEGIN {printf "%.9f", 10 * exp((i - 5) / 100)}')"
	put value pipe none $i 5
	put value pipe stallbox $i "$(awk -v i=$i 'BEGIN {print 5 + 2 * (0.19 + i / 500)}')" # 0.192 to 0.21 a switch
	put value pipe base $i 4.9 # what the other tools are compared with
	put value pipe perf $i "$(awk -v i=$i 'BEGIN {print 4.9 + 20 * (0.19 + i / 500)}')" # ten times as much
	put value make_cpu none $i 3
	put value make_cpu stallbox $i "$(awk -v i=$i 'BEGIN {printf "%.9f", 3 * exp((i + 10) / 1000)}')"
	put value make_control none $i 2
	put value make_control stallbox $i "$(awk -v i=$i 'BEGIN {printf "%.9f", 2 * exp((i - 5.5) / 1000)}')"
done
for i in 1 2 3 4 5; do
	put value messaging none $i 1
	put value messaging stallbox $i 1.1
done
for i in 1 2 3 4 5 6 7 8; do
	put value redis base $i 8
	put value redis perf $i "$(awk -v i=$i 'BEGIN {printf "%.9f", 8 * exp(i / 10)}')"
done
put missing nginx stallbox 'wrk is not installed'
put missing pipe offcputime 'libbpf-tools is not installed'
put missing instructions stallbox 'valgrind is not installed'
put count idle_bytes 0
put count idle_seconds 40
put count rss_kib 20480
ok "tables and picture are made" report
is "ratio of ten pairs" "$(cell '`make -j`' 7)" 1.0565
is "its interval is that of the signed rank table" "$(cell '`make -j`' 8)" "1.0305 to 1.0833"
is "that of CPU time beside it" "$(cell '`make -j`' 11), $(cell '`make -j`' 12)" "1.0156, 1.0131 to 1.0182"
is "and the control" "$(cell '`make -j`' 13), $(cell '`make -j`' 14)" "1.0000, 0.9975 to 1.0025"
is "above its budget" "$(cell '`make -j`' 10)" "not met"
like "a budget inside the interval is open" "$(cell redis-benchmark 10)" '^open'
is "five pairs give no 95 % interval" "$(cell 'sched messaging' 8)" "none: fewer than 6 pairs"
is "and no verdict" "$(cell 'sched messaging' 10)" ""
is "added to a switch: half of an operation" "$(cell '| stallbox |' 4)" 0.201
is "within the budget" "$(cell '| stallbox |' 9)" met
is "ten times as much" "$(cell 'perf record -e' 6)" 10.0
# 97.5 % of ten pairs: the sixth average from either end, of 1 1.5 2 2 2.5 2.5 ..., is 2.5 and 8.5.
is "from the least of one to the most of the other" "$(cell 'perf record -e' 7)" "9.4 to 10.6"
# ln of the ratios 0.1 to 0.8, Wilcoxon's table for n = 8: 3. The fourth of 36 averages: 0.2 (0.1 0.15 0.2 0.2), so 0.7; the middle is 0.45.
beside() { line '| redis-benchmark' 2 | cut -d'|' -f"$1" | sed 's/^ *//; s/ *$//'; }
is "a load with another tool, beside ours" "$(beside 3), $(beside 5), $(beside 6), $(beside 7)" \
	"1.005, 1.568, 1.221 to 2.014, not measured: left out of this run"
like "what is not installed is said" "$(line 'nginx and wrk')" 'not measured: wrk is not installed'
like "also of another tool" "$(line '`offcputime` |')" 'not measured: libbpf-tools is not installed'
like "and of instructions" "$(line '`stallbox fold`')" 'not measured: valgrind is not installed'
like "what this run left out too" "$(line 'pgbench -S')" 'not measured: left out of this run'
is "and is nowhere a 0" "$(grep -F 'not measured' "$TEST_TMP/r.md" | sed 's/not measured: [^|]*//' | grep -cE '\| *-?0(\.0+)? *\|')" 0
like "a count above its budget" "$(line 'RSS of the agent')" '20.0 .* not met'
is "none written is a count of 0, and met" "$(cell 'bytes written to disk in 40 s' 3),$(cell 'bytes written to disk in 40 s' 6)" "0,met"
if command -v xmllint >/dev/null; then
	ok "the picture is well-formed" xmllint --noout "$TEST_TMP/r.svg"
	say() { xmllint --xpath "count(//*[local-name()='text'][contains(., '$1')])" "$TEST_TMP/r.svg"; }
	is "it says what was not measured" "$(say 'not measured: wrk is not installed')" 1
	is "numbers with their interval" "$(say '+5.7 % (+3.0 to +8.3)')" 1
	is "names as text" "$(say 'Linux <&> 6.1')" 1
else
	skip "the picture" "xmllint is not installed"
fi
like "for dark pages, too" "$(cat "$TEST_TMP/r.svg")" 'prefers-color-scheme: dark'

printf 'before\n<!-- make bench: begin -->\nold\n<!-- make bench: end -->\nafter\n' >"$TEST_TMP/r.md"
ok "tables go between the marks" report
is "the rest stays" "$(sed -n '1p;$p' "$TEST_TMP/r.md" | paste -sd' ')" "before after"
is "what was there goes" "$(grep -c '^old$' "$TEST_TMP/r.md")" 0
echo text >"$TEST_TMP/r.md"
report
is "a file without marks is refused: status" $? 1
is "and stays" "$(cat "$TEST_TMP/r.md")" text
put value make none x 1
report
like "a broken line is named" "$(cat "$TEST_TMP/out")" 'raw, line [0-9]+: expected'
finish
