#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The flame graphs in a browser: tests/browser/flame.js.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../consumers/lib.sh"
need_browser
B=$TEST_TMP/x.stall
"$BUILD/tests/helpers/make_bundle" "$B" events=5000 && "$BUILD/tests/helpers/make_bundle" "$TEST_TMP/h.stall" events=2000 hostile=2 &&
	"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/many.stall" events=50000 stacks=5000 || { echo "1..1"; echo "not ok 1 - make_bundle"; exit 1; }
fold() { "$STALLBOX" fold "$@"; }
draw() { "$STALLBOX" "$1" -o "$TEST_TMP/$2.svg" "${@:3}" || exit 1; }
draw flame on-cpu "$B"
draw flame off-cpu --kind off-cpu "$B"
draw flame inverted --inverted "$B"
draw flame reverse --reverse "$B"
draw flame process --by process "$B"
draw flame hostile "$TEST_TMP/h.stall"
draw flame many "$TEST_TMP/many.stall"
draw flame blocked --kind blocked "$B"
draw diff diff "$TEST_TMP/many.stall"
fold "$B" >"$TEST_TMP/on-cpu.folded"
fold --kind off-cpu --weight ns "$B" >"$TEST_TMP/off-cpu.folded"
"$STALLBOX" diff --folded "$TEST_TMP/many.stall" >"$TEST_TMP/diff.folded"
"$NODE" "$ROOT/tests/browser/flame.js" "$TEST_TMP"
