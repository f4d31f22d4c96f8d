#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Profiles for a Pyroscope server. There is none in Debian or npm: what is sent is looked at here, where it is said to be
# sent in Pyroscope's documentation, and opened by go tool pprof. That a Pyroscope takes it is not shown.
UPLOAD_NEEDS="python3 curl"
. "$(dirname "$0")/lib.sh"

GOT=$TEST_TMP/got
mkdir "$GOT"
spawn python3 "$ROOT/tests/upload/receiver.py" 4040 "$GOT"
wait_for 10 curl -s -o /dev/null http://127.0.0.1:4040
PATH=$BUILD:$PATH
configure Endpoint= Bucket= CredentialsFile= Prefix= PyroscopeUrl=http://127.0.0.1:4040/base/

# The trigger of make_bundle's bundles is at 1790000000 s, the events are around it.
name=web-1-20260921T140640.000Z-psi.stall.pb.zst
capture $name seed=1 locks=1
ok "the profile of a capture is pushed" upload_once
query=$(cat "$GOT/1.path")
like "as application stallbox of this host, to /ingest" "$query" \
	'^/base/ingest\?name=stallbox%7Bhost%3Dweb-1%7D&format=pprof&spyName=stallbox&from=[0-9]+&until=[0-9]+$'
from=$(sed -E 's/.*from=([0-9]+).*/\1/' <<<"$query") until=$(sed -E 's/.*until=([0-9]+).*/\1/' <<<"$query")
between "from the first event" "$from" $((1790000000 - 120)) 1790000000
between "until the last one" "$until" "$from" $((1790000000 + 120))
"$STALLBOX" export --format pprof "$CAPTURES/$name" >"$TEST_TMP/profile"
ok "it is what export writes" cmp "$GOT/1.body" "$TEST_TMP/profile"
if command -v go >/dev/null; then
	like "go tool pprof opens it, every kind a sample type" "$(go tool pprof -raw "$GOT/1.body" 2>&1)" 'Samples:.*on-cpu/count.*off-cpu/microseconds'
else
	skip "go tool pprof opens it" "golang-go is not installed"
fi
ok "the capture is marked" marked $name
upload_once
is "and is not pushed again" "$(find "$GOT" -name '*.body' | wc -l)" 1

echo 503 >"$GOT/status"
capture web-1-20260921T140641.000Z-psi.stall.pb.zst seed=2
upload_start
ok "a server that is busy is tried again" wait_for 30 metric_above 'stallbox_pyroscope_failures_total{cause="busy"}' 1
is "and the capture not marked" "$(marked web-1-20260921T140641.000Z-psi.stall.pb.zst; echo $?)" 1
rm "$GOT/status"
ok "until it takes the profile" wait_for 30 metric_is stallbox_pyroscope_pushed_total 1
ok "then it is" wait_for 30 all_marked
echo 422 >"$GOT/status"
capture web-1-20260921T140642.000Z-psi.stall.pb.zst seed=3
ok "one that is turned away is counted" wait_for 30 metric_is stallbox_pyroscope_turned_away_total 1
ok "and done with" wait_for 30 all_marked
echo 503 >"$GOT/status"
capture web-1-20260921T140643.000Z-psi.stall.pb.zst seed=4
touch -d '-2 hours' "$CAPTURES/web-1-20260921T140643.000Z-psi.stall.pb.zst"
ok "one that is too old for Pyroscope is not kept for it" wait_for 30 all_marked
ok "which is counted, too" wait_for 30 metric_is stallbox_pyroscope_turned_away_total 2 # told after the mark
upload_stop

# Both destinations: one of them keeps the other from nothing.
configure Endpoint=http://127.0.0.1:9 PyroscopeUrl=http://127.0.0.1:4040
rm "$GOT/status"
capture web-1-20260921T140644.000Z-psi.stall.pb.zst seed=5
upload_once
is "a store that is away does not keep a profile" "$(metric stallbox_pyroscope_pushed_total) $(metric stallbox_upload_pending)" "1 1"
PATH=/nonexistent "$UPLOAD" --config "$CONF" --status "$STATUS" --once 2>"$LOG"
like "without stallbox in PATH it says so" "$(cat "$LOG")" 'stallbox export --format pprof: exit status 127'

finish
