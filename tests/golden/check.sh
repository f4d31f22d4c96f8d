#!/usr/bin/env bash
# Bundles of released versions must read the same for ever. --update writes the expectations.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT/tests/golden" || exit 1
for b in v*/*.stall.pb.zst; do
	for view in "info" "fold --kind on-cpu" "fold --kind off-cpu" "events --no-stacks"; do
		want=${b%.stall.pb.zst}.$(tr -d ' -' <<<"$view").txt
		# shellcheck disable=SC2086
		"$STALLBOX" $view "$b" >"$TEST_TMP/got" 2>&1
		if [ "${1:-}" = --update ]; then cp "$TEST_TMP/got" "$want"; fi
		ok "$b: $view" diff -u "$want" "$TEST_TMP/got"
	done
done
finish
