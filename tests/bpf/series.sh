#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Counters and gauges: one value a second, those of the files; the reader's own process touches no victim.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

ctxt() { awk '/^ctxt/ {print $2}' /proc/stat; }
before=$(ctxt)
begin=$SECONDS # readings begin while the agent starts
start_agent --post 1s --trigger 'kernel:reclaim>600s' || { fail "agent starts"; finish; }
start=$SECONDS
reader=$(pgrep -P "$AGENT" -x stallbox-series)
ok "a process of its own reads them" [ -n "$reader" ]
if command -v strace >/dev/null; then
	strace -f -e trace=openat,open -o "$TEST_TMP/strace" -p "$reader" 2>/dev/null &
	TEST_PIDS+=($!)
fi
while [ $((SECONDS - start)) -lt 5 ]; do sleep 0.2; done
ok "a freeze gives a bundle" freeze
after=$(ctxt)
"$STALLBOX" series --json "$BUNDLE" >"$TEST_TMP/series"
one() { jq -c "select(.name == \"$1\" and .scope == \"$2\")" "$TEST_TMP/series"; }
readings=$(jq '.values[][0]' "$TEST_TMP/series" | sort -u | wc -l)
between "one reading a second" "$readings" 4 $((SECONDS - begin + 1))
# A file that took too long is left alone, and that is said.
slow=$(one series.slow_reads "" | jq '.values[-1][1]')
values=$(one stat.ctxt "" | jq '.values | length')
if [ "$slow" = 0 ]; then
	is "each of them has each file" "$values" "$readings"
else
	is "$slow files took too long: a reading misses something" \
		"$(jq -s --argjson n "$readings" 'any(.[] | select(.scope == ""); .values | length < $n)' "$TEST_TMP/series")" true
fi
between "the context switches of /proc/stat" "$(one stat.ctxt "" | jq '.values[0][1]')" "$before" "$after"
is "counted upwards" "$(one stat.ctxt "" | jq '[.values[][1]] | . == sort')" true
is "CPU time of every online CPU" "$(jq -r 'select(.name == "cpu.system") | .scope' "$TEST_TMP/series" | wc -l)" "$(getconf _NPROCESSORS_ONLN)"
if grep -q some /proc/pressure/memory 2>/dev/null; then
	is "pressure of memory, cpu and io" "$(jq -r 'select(.name | test("^pressure\\..*some$")) | .name' "$TEST_TMP/series" | sort | tr '\n' ' ')" \
		'pressure.cpu.some pressure.io.some pressure.memory.some '
else
	skip "pressure of memory, cpu and io" "no PSI on this kernel"
fi
is "what each cost is a series too" "$(one series.worst_read "" | jq '.values | length')" "$readings"
ok "memory.stat is never opened, nor a file of a process" bash -c "! grep -E 'memory\\.stat|/proc/[0-9]' '$TEST_TMP/strace'"
kill -9 "$reader"
ok "without its reader the agent goes on" freeze
finish
