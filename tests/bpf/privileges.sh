#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Each process of the recorder keeps the capabilities that it needs, and all that it does works with these.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

# of SET: those that root has here at all, in hexadecimal
had() { printf '%x' $((0x$1 & 0x$(capabilities Prm $$))); }
# It gives up CAP_SYS_ADMIN then.
has_opened_sideband() { [ "$(capabilities Prm "$(child stallbox-unwind)")" = "$(had 1c400084004)" ]; }
child() { pgrep -P "$AGENT" -x "$1"; }
# Bits: DAC_READ_SEARCH 2, IPC_LOCK 14, SYS_PTRACE 19, SYS_ADMIN 21, SYS_NICE 23, SYS_RESOURCE 24, SYSLOG 34, PERFMON 38, BPF 39, CHECKPOINT_RESTORE 40
start_agent --post 100ms --cooldown 0s --trigger "probe:exec:grep ^Cap /proc/self/status >$TEST_TMP/of && mv $TEST_TMP/of $TEST_TMP/of_command:every=100ms" \
	--trigger 'psi:memory:some:100ms/1s:name=psi' || { fail "the agent records with all that root has"; finish; }
is "the loop has BPF, PERFMON, SYS_RESOURCE and IPC_LOCK in effect" "$(capabilities Eff "$AGENT")" "$(had c001004000)"
is "permitted are six besides" "$(capabilities Prm "$AGENT")" "$(had 1c401284004)"
is "the bounding set ends there, too" "$(capabilities Bnd "$AGENT")" "$(had 1c401a84004)"
is "the starter does without SYS_ADMIN and SYS_RESOURCE" "$(capabilities Prm "$(child stallbox-start)")" "$(had 1c400084004)"
is "so do those that wait for a capture" "$(capabilities Prm "$(pgrep -P "$(child stallbox-start)" -x stallbox-ready | head -n 1)")" "$(had 1c400084004)"
for p in series probe; do is "stallbox-$p has none" "$(capabilities Prm "$(child stallbox-$p)")" 0; done
if [ -n "$(child stallbox-unwind)" ]; then
	wait_for 30 has_opened_sideband
	is "stallbox-unwind has those of the starter, in all of its threads" \
		"$(sed -n 's/^CapPrm:\t0*//p' /proc/"$(child stallbox-unwind)"/task/*/status | sort -u)" "$(had 1c400084004)"
else
	skip "stallbox-unwind has those of the starter, in all of its threads" "user stacks are not unwound here"
fi
ok "a health check runs" wait_for 30 test -s "$TEST_TMP/of_command"
is "with no capability in any set that counts" "$(grep -cE '^Cap(Inh|Prm|Eff|Amb):.0000000000000000$' "$TEST_TMP/of_command")" 4
# What needs a capability after the start: programs attached for the window, run time, names.
ok "a bundle" freeze privileges
ok "kernel functions have names" bash -c "'$STALLBOX' fold --kind off-cpu '$BUNDLE' | grep -q schedule"
measured() { [ "$(status_of .cost.windows)" -ge 1 ]; }
ok "the cost of programs is measured" wait_for 60 measured
is "the loop has no more in effect than before" "$(capabilities Eff "$AGENT")" "$(had c001004000)"
is "nothing was refused" "$(grep -E 'cannot|refused|not permitted|Permission' "$AGENT_LOG" | grep -v '^not available on this kernel')" ""
stop_agent
"$STALLBOXD" --unload --bpffs "$PINS" 2>/dev/null

# With two capabilities, where the kernel allows that.
REAL=$STALLBOXD
with_only() { # CAPABILITIES
	printf '#!/bin/sh\nexec setpriv --bounding-set=-all%s --inh-caps=-all %q "$@"\n' "$1" "$REAL" >"$TEST_TMP/stallboxd"
	chmod +x "$TEST_TMP/stallboxd"
	STALLBOXD=$TEST_TMP/stallboxd
}
with_only ,+bpf,+perfmon
if [ "$(cat /proc/sys/kernel/perf_event_paranoid)" -le 2 ]; then
	ok "CAP_BPF and CAP_PERFMON alone: it records" start_agent --no-pin --post 100ms
	is "with these two" "$(capabilities Prm "$AGENT")" c000000000
	"$WORKLOADS/spinner" 0.3 >/dev/null
	ok "CAP_BPF and CAP_PERFMON alone: a bundle" freeze two
	ok "with the on-CPU samples of 0.3 s" [ "$(events --kind on-cpu --comm spinner "$BUNDLE" | wc -l)" -ge 20 ]
	ok "with blocks" [ "$(events --kind off-cpu "$BUNDLE" | wc -l)" -gt 0 ]
	stop_agent
else
	ok "CAP_BPF and CAP_PERFMON alone, perf_event_paranoid 3: refused" bash -c "! '$STALLBOXD' --foreground --no-pin \
		--socket '$SOCKET' --spool '$SPOOL' 2>'$AGENT_LOG'"
	ok "and it says which one is missing" log_has 'hint: grant CAP_PERFMON, and CAP_SYS_ADMIN where kernel.perf_event_paranoid is 3|before 5.11 CAP_SYS_RESOURCE'
fi
with_only ,+perfmon
ok "without CAP_BPF it is refused" bash -c "! '$STALLBOXD' --foreground --no-pin --socket '$SOCKET' --spool '$SPOOL' 2>'$AGENT_LOG'"
ok "and it says what to grant" log_has 'hint: run as root, or grant CAP_BPF and CAP_PERFMON'
STALLBOXD=$REAL
finish
