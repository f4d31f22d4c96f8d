#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A thousand hits a minute and a flood of events: each hit is counted by what became of it, memory stays what it was,
# bundles stay within their quota. STORM_SECONDS (20; make check-storm: 600).
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"
[ -z "${STALLBOX_IN_VM:-}" ] || { skip "a storm of hits" "an emulated machine writes few bundles a minute"; finish; }
LASTS=${STORM_SECONDS:-20}
QUOTA=$((16 << 20))

# A service that is well and ill in turn, and keeps account of it.
cat >"$TEST_TMP/ill" <<-'SH'
	#!/bin/sh
	if [ -e "$0.was" ]; then rm "$0.was"; exit 0; fi
	[ -e "$0.over" ] && exit 0
	: >"$0.was"; echo ill >>"$0.account"; exit 1
SH
chmod +x "$TEST_TMP/ill"
: >"$TEST_TMP/ill.account"
ill() { wc -l <"$TEST_TMP/ill.account"; }
outcomes() { "$STALLBOX" triggers --json --socket "$SOCKET" | jq '.triggers[] | select(.name == "storm") | .outcomes | add'; }
all_counted() { [ "$(outcomes)" = "$(ill)" ]; }
rss() { awk '/^VmRSS/ {print $2}' "/proc/$AGENT/status"; }
# What was there at one moment, between two walks: of what both saw, the sizes that the first one saw. The sum of one walk
# counts the oldest, which goes, and what it makes room for.
used() {
	find "$SPOOL" "$SPOOL/." -maxdepth 1 -name '[!.]*.zst' -printf '%f:%i %s\n' 2>/dev/null |
		awk '$1 in size { sum += size[$1] } { size[$1] = $2 } END { print sum + 0 }'
}

start_agent --post 100ms --cooldown 0s --max-use 16M --trigger "probe:exec:$TEST_TMP/ill:every=20ms:fails=1:name=storm" ||
	{ fail "agent starts"; finish; }
"$WORKLOADS/fault_storm" $((LASTS + 60)) 2 >/dev/null &
TEST_PIDS+=($!)
for _ in 1 2; do
	(while :; do /bin/true; done) &
	TEST_PIDS+=($!)
	"$WORKLOADS/sleeper" 10000000 1 >/dev/null &
	TEST_PIDS+=($!)
done
a_bundle() { [ "$(status_of .captures)" -ge 3 ]; }
ok "bundles come" wait_for 60 a_bundle
rss0=$(rss) most=0 over=0 began=$SECONDS ill0=$(ill)
while [ $((SECONDS - began)) -lt "$LASTS" ]; do
	sleep 1 # between two looks
	r=$(rss)
	most=$((r > most ? r : most))
	u=$(used)
	over=$((u > over ? u : over))
done
ran=$((SECONDS - began))
hits=$((($(ill) - ill0) * 60 / ran))
touch "$TEST_TMP/ill.over"
ok "every hit is counted, whatever became of it" wait_for 60 all_counted
echo "# $(ill) hits, $hits a minute; bundles: $(status_of .captures); outcomes: $("$STALLBOX" triggers --json --socket "$SOCKET" | jq -c '.triggers[].outcomes'); RSS $rss0 KiB, $most at most; $((over >> 10)) KiB of bundles at most"
between "hits a minute" "$hits" $((LASTS >= 600 ? 1000 : 300)) 100000
between "the agent's memory is what it was, KiB" "$most" 1 $((rss0 + 1024))
between "bundles stay within their quota" "$over" $((QUOTA / 2)) "$QUOTA"
is "no failure" "$(status_of .failures)" 0
idle() { [ "$(status_of .state)" = recording ]; }
ok "it records on" wait_for 60 idle
ok "and a person gets a bundle" freeze
stop_agent
finish
