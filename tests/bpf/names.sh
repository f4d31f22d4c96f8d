#!/usr/bin/env bash
# Captures that follow each other within a second are files of their own.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

start_agent --post 0s --cooldown 0s || { fail "agent starts"; finish; }
started=$EPOCHREALTIME
n=0
for i in 1 2 3 4 5 6 7; do
	if freeze "number $i"; then n=$((n + 1)); fi
done
echo "# 7 captures in ${started} to $EPOCHREALTIME"
is "7 freezes are answered" "$n" 7
is "and are 7 bundles" "$(bundle_count)" 7
is "with 7 reasons" "$(for b in $(bundles); do "$STALLBOX" info --json "$b" | jq -r .trigger.detail; done | sort | tr '\n' ,)" \
	"$(printf 'number %s,' 1 2 3 4 5 6 7)"
is "their names are in order" "$(bundles | xargs -n 1 basename)" "$(find "$SPOOL" -name '*.zst' -printf '%T@ %f\n' | sort -n | cut -d' ' -f2)"
finish
