#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The host takes things away: memory (the kernel kills the agent), the mount of bpffs, a watched cgroup with its
# pressure files, CPUs, the clock, and time itself (suspend). What this host cannot do runs in a VM.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

CG2=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
CG1=$(findmnt -n -t cgroup -O memory -o TARGET | head -n 1)
GROUP=
HOG=
extra_cleanup() {
	[ -z "$HOG" ] || kill -9 "$HOG" 2>/dev/null
	[ "$(cat "$CPU" 2>/dev/null)" != 0 ] || echo 1 >"$CPU"
	[ -z "$GROUP" ] || rmdir "$GROUP" 2>/dev/null
	[ ! -d "$CG2/stallbox-survive-$$" ] || rmdir "$CG2/stallbox-survive-$$" 2>/dev/null
}
CPU=/sys/devices/system/cpu/cpu1/online

# ---- the kernel kills the agent for its cgroup's memory ----
if [ -n "$CG1" ]; then
	GROUP=$CG1/stallbox-survive-$$ LIMIT=memory.limit_in_bytes
elif grep -qw memory "$CG2/cgroup.subtree_control" 2>/dev/null; then
	GROUP=$CG2/stallbox-oom-$$ LIMIT=memory.max
fi
if [ -n "$GROUP" ] && mkdir "$GROUP" 2>/dev/null && echo 400M >"$GROUP/$LIMIT"; then
	cat >"$TEST_TMP/stallboxd" <<SH
#!/bin/bash
echo 1000 >/proc/self/oom_score_adj # it is chosen before what fills the cgroup
echo \$\$ >'$GROUP/cgroup.procs' && exec '$STALLBOXD' "\$@"
SH
	chmod +x "$TEST_TMP/stallboxd"
	STALLBOXD=$TEST_TMP/stallboxd start_agent --post 1s || { fail "agent starts"; finish; }
	ok "somebody reads the rings" follow
	"$WORKLOADS/sleeper" 11 20 >"$TEST_TMP/a"
	bash -c "echo \$\$ >'$GROUP/cgroup.procs'
		exec python3 -c 'b = []
while 1: b.append(bytearray(1 << 20))'" 2>/dev/null &
	HOG=$!
	agent_dead() { ! kill -0 "$AGENT" 2>/dev/null; }
	ok "the kernel kills the agent for its cgroup's memory" wait_for 60 agent_dead
	kill "$AGENT" 2>/dev/null # if it did not
	wait "$AGENT" 2>/dev/null
	is "by SIGKILL" $? 137
	kill -9 "$HOG" 2>/dev/null
	wait "$HOG" 2>/dev/null
	HOG=
	AGENT=
	"$WORKLOADS/sleeper" 13 20 >"$TEST_TMP/b"
	start_agent --post 1s || { fail "the next agent starts"; finish; }
	ok "the next agent takes over" log_has 'took over a running recorder'
	ok "a freeze" freeze
	are_sleeps "has what was before the kill" "$(sleeps "$TEST_TMP/a")" 11
	are_sleeps "and while nobody ran" "$(sleeps "$TEST_TMP/b")" 13
	no_gap "over an OOM kill"
	stop_agent
	"$STALLBOXD" --unload --bpffs "$PINS" 2>/dev/null
else
	skip "the kernel kills the agent for its cgroup's memory" "no memory controller can be had here"
fi

# ---- bpffs ----
rc() { "$STALLBOXD" --foreground --socket "$SOCKET" --spool "$SPOOL" "$@" >"$TEST_TMP/out" 2>&1; }
rc --bpffs "$TEST_TMP/nowhere"
is "where bpffs cannot be mounted the agent does not start: status" $? 1
like "says why and what to do" "$(cat "$TEST_TMP/out")" 'cannot use bpffs at .*nowhere.*hint: mount -t bpf'
start_agent --post 1s || { fail "agent starts"; finish; }
ok "where it is not mounted the agent mounts it" findmnt -n -t bpf "$PINS"
umount -l "$PINS"
ok "unmounted below a running agent: a freeze" freeze
"$WORKLOADS/sleeper" 7 20 >"$TEST_TMP/c"
stop_agent
start_agent --post 1s || { fail "agent starts"; finish; }
ok "the next one mounts it and begins anew" log_has 'recording,'
ok "and freezes" freeze

# ---- a watched cgroup goes, and its pressure files with it ----
stop_agent
W=$CG2/stallbox-survive-$$
if [ -n "$CG2" ] && mkdir "$W" 2>/dev/null && [ -e "$W/cpu.pressure" ]; then
	start_agent --post 1s --cooldown 1s --trigger "psi:cpu:some:500ms/2s:cgroup=${W##*/}" --trigger 'psi:memory:full:1900ms/2s' || { fail "agent starts"; finish; }
	armed() { status_of '[.triggers[] | select(.armed)] | length'; }
	is "a cgroup's pressure is watched" "$(armed)" 2
	rmdir "$W"
	one_left() { [ "$(armed)" = 1 ]; }
	ok "the cgroup goes: its trigger is disarmed" wait_for 15 one_left
	ok "that is said" log_has 'cannot look any more and is disarmed'
	ok "the agent goes on" freeze
	cpu() { awk '{print $14 + $15}' "/proc/$AGENT/stat"; }
	before=$(cpu)
	sleep 1
	between "and does not spin on it (ticks of CPU time in a second)" $(($(cpu) - before)) 0 20
	stop_agent
else
	skip "a watched cgroup vanishes" "no cgroup v2 with pressure files"
fi

# ---- CPUs ----
if [ -w "$CPU" ] && [ "$(cat "$CPU")" = 1 ] && [ -n "${STALLBOX_IN_VM:-}" ]; then
	start_agent --post 1s || { fail "agent starts"; finish; }
	ok "somebody reads the rings" follow
	samples_on() { # CPU: samples there of a program that runs on it
		taskset -c "$1" "$WORKLOADS/spinner" 0.5 >"$TEST_TMP/spin" || return 1
		freeze || return 1
		events --kind on-cpu --pid "$(grep -oE 'pid=[0-9]+' "$TEST_TMP/spin" | tail -n 1 | cut -d= -f2)" "$BUNDLE" | jq -s "[.[] | select(.cpu == $1)] | length"
	}
	between "samples on CPU 1" "$(samples_on 1)" 20 100
	echo 0 >"$CPU"
	ok "CPU 1 goes: a freeze" freeze
	echo 1 >"$CPU"
	ok "it comes back and is sampled again" wait_for 10 log_has '1 CPUs came online'
	between "samples on CPU 1 again" "$(samples_on 1)" 20 100
	# The same while nobody looks.
	kill_agent
	echo 0 >"$CPU"
	echo 1 >"$CPU"
	sleep 1.5 # a sampler that is silent for a second is taken for dead
	start_agent --post 1s || { fail "agent starts"; finish; }
	between "samples on CPU 1 that was away without an agent" "$(samples_on 1)" 20 100
	no_gap "over CPUs that go and come"
	stop_agent
else
	skip "CPUs go and come" "only in a VM (tests/vm/check 6.1 bpf/survive_host)"
fi

# ---- the clock, and suspend ----
if [ -n "${STALLBOX_IN_VM:-}" ]; then
	start_agent --post 1s || { fail "agent starts"; finish; }
	ok "somebody reads the rings" follow
	"$WORKLOADS/sleeper" 11 20 >"$TEST_TMP/a"
	date -s '+3 hours' >/dev/null
	ok "the clock goes three hours on: a freeze" freeze
	first=$BUNDLE
	"$WORKLOADS/sleeper" 13 20 >"$TEST_TMP/b"
	date -s '-6 hours' >/dev/null
	ok "and six back: a freeze" freeze
	is "in a bundle of its own" "$([ "$first" != "$BUNDLE" ] && complete "$first" && complete "$BUNDLE" && echo yes)" yes
	is "no block before is lost" "$(sleeps "$TEST_TMP/a") $(sleeps "$TEST_TMP/b")" "11 13"
	is "and none has a length of hours" "$(events "$BUNDLE" | jq -s '[.[] | select(.duration_ns > 3600e9)] | length')" 0
	date -s '+3 hours' >/dev/null
	# The kernel's own rehearsal: every process is frozen for seconds, as for a suspend. The levels beyond it take
	# away the devices, and with them this VM's root; CPUs go and come above.
	if echo freezer >/sys/power/pm_test 2>/dev/null && grep -qw mem /sys/power/state; then
		ok "suspend to memory, as far as every process being frozen" bash -c 'echo mem >/sys/power/state'
		"$WORKLOADS/sleeper" 7 20 >"$TEST_TMP/c"
		ok "afterwards a freeze" freeze
		is "with what was before and after the suspend" "$(sleeps "$TEST_TMP/b") $(sleeps "$TEST_TMP/c")" "13 7"
	else
		skip "suspend" "this kernel has no /sys/power/pm_test"
	fi
	no_gap "over clock steps and suspend"
	stop_agent
else
	skip "the clock steps, the machine sleeps" "only in a VM (tests/vm/check 6.1 bpf/survive_host)"
fi
finish
