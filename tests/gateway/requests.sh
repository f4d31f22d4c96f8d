#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What the gateway answers: bundles and parts of them, pages, metrics, health, freezes, webhooks; and to requests that
# no client of good will sends. The agent is a stub whose answers are known; tests/bpf/gateway.sh has the real one.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/gateway/lib.sh
. "$(dirname "$0")/lib.sh"

NAME=host-a-20261120T233350Z-reclaim-age_042.stall.pb.zst
cp "$ROOT/tests/golden/v1.0/synthetic.stall.pb.zst" "$CAPTURES/$NAME"
OTHER=host-a-20261120T233349Z-manual.stall.pb.zst
head -c 300000 /dev/urandom >"$TEST_TMP/fallback/$OTHER"
echo secret >"$CAPTURES/secret.txt"
echo half >"$CAPTURES/.tmp-1-$NAME"
ln -s secret.txt "$CAPTURES/link.stall.pb.zst"
mkfifo "$CAPTURES/fifo.stall.pb.zst"
mkdir "$CAPTURES/dir.stall.pb.zst"
echo evil >"$CAPTURES/<script>alert(1)<.stall.pb.zst"
SIZE=$(stat -c %s "$CAPTURES/$NAME")
SHA=$(sha256sum <"$CAPTURES/$NAME" | cut -d' ' -f1)
API=/api/v1/captures

start_stub
FREEZE=$(token "$TEST_TMP/freeze.token")
start_gateway --anonymous read --token-file "freeze:$TEST_TMP/freeze.token" || exit 1
AUTH=(-H "Authorization: Bearer $FREEZE")

# ---- one bundle ------------------------------------------------------------------------
get "$API/$NAME" >"$TEST_TMP/got"
ok "a bundle is sent as it is" cmp "$TEST_TMP/got" "$CAPTURES/$NAME"
is "its ETag is its SHA-256" "$(header_of ETag "$API/$NAME")" "\"$SHA\""
is "it has its name" "$(header_of Content-Disposition "$API/$NAME")" "attachment; filename=\"$NAME\""
is "it is nothing that a browser runs" "$(header_of X-Content-Type-Options "$API/$NAME") $(header_of Content-Security-Policy "$API/$NAME")" \
	"nosniff default-src 'none'; frame-ancestors 'none'"
is "HEAD has its length" "$(header_of Content-Length -I "$API/$NAME")" "$SIZE"
sent() { metric stallbox_gateway_sent_bytes_total; }
BEFORE=$(sent)
get -I "$API/$NAME" >"$TEST_TMP/got"
is "of which none is counted as sent" "$(sent)" "$BEFORE"
is "HEAD ignores a range" "$(status -I -H 'Range: bytes=0-9' "$API/$NAME") $(header_of Content-Length -I -H 'Range: bytes=0-9' "$API/$NAME")" "200 $SIZE"
get "$API/$OTHER" >"$TEST_TMP/got"
ok "one in the fallback directory, too" cmp "$TEST_TMP/got" "$TEST_TMP/fallback/$OTHER"

# part RANGE SKIP COUNT: of $OTHER; by the bytes, and by the header.
part() {
	get -H "Range: bytes=$1" "$API/$OTHER" >"$TEST_TMP/got"
	tail -c "+$(($2 + 1))" "$TEST_TMP/fallback/$OTHER" | head -c "$3" >"$TEST_TMP/want"
	ok "bytes=$1 are those bytes" cmp "$TEST_TMP/got" "$TEST_TMP/want"
	is "bytes=$1 is told as what it is" "$(status -H "Range: bytes=$1" "$API/$OTHER") $(header_of Content-Range -H "Range: bytes=$1" "$API/$OTHER")" \
		"206 bytes $2-$(($2 + $3 - 1))/300000"
}
part 0-0 0 1
part 100000-199999 100000 100000
part 299999- 299999 1
part -7 299993 7
part 299000-999999 299000 1000
is "a range behind the end is refused" "$(status -H 'Range: bytes=300000-' "$API/$OTHER") $(header_of Content-Range -H 'Range: bytes=300000-' "$API/$OTHER")" "416 bytes */300000"
is "several ranges: all of it" "$(status -H 'Range: bytes=0-1,5-6' "$API/$OTHER")" 200
is "If-Range with the ETag: the part" "$(status -H "If-Range: \"$SHA\"" -H 'Range: bytes=0-9' "$API/$NAME")" 206
is "If-Range with another: all of it" "$(status -H 'If-Range: "x"' -H 'Range: bytes=0-9' "$API/$NAME")" 200
is "If-Range with a date: all of it" "$(status -H 'If-Range: Sat, 21 Nov 2026 22:22:02 GMT' -H 'Range: bytes=0-9' "$API/$NAME")" 200
is "If-None-Match with the ETag: nothing" "$(status -H "If-None-Match: \"$SHA\"" "$API/$NAME")" 304
is "If-None-Match with another: all of it" "$(status -H 'If-None-Match: "x"' "$API/$NAME")" 200
curl -s -r 0-99999 -o "$TEST_TMP/resumed" "$URL$API/$OTHER"
curl -s -C - -o "$TEST_TMP/resumed" "$URL$API/$OTHER"
ok "curl resumes a download" cmp "$TEST_TMP/resumed" "$TEST_TMP/fallback/$OTHER"
# A bundle grows: its second half follows the first.
cp "$CAPTURES/$NAME" "$CAPTURES/grows-20261120T233351Z-t.stall.pb.zst"
BEFORE=$(header_of ETag "$API/grows-20261120T233351Z-t.stall.pb.zst")
echo more >>"$CAPTURES/grows-20261120T233351Z-t.stall.pb.zst"
is "a bundle that has grown has another ETag" "$BEFORE $(header_of ETag "$API/grows-20261120T233351Z-t.stall.pb.zst")" \
	"\"$SHA\" \"$(sha256sum <"$CAPTURES/grows-20261120T233351Z-t.stall.pb.zst" | cut -d' ' -f1)\""
rm "$CAPTURES/grows-20261120T233351Z-t.stall.pb.zst"

# ---- lists and pages -------------------------------------------------------------------
get "$API" >"$TEST_TMP/list.json"
is "the list has both, the newer one first" "$(jq -r '[.captures[].id] | join(" ")' "$TEST_TMP/list.json")" "$NAME $OTHER"
is "time, trigger, size and hash of each" "$(jq -c '.captures[0] | [.time, .trigger, .size, .sha256, .uploaded]' "$TEST_TMP/list.json")" \
	"[\"2026-11-20T23:33:50.042Z\",\"reclaim-age\",$SIZE,\"$SHA\",false]"
mkdir "$CAPTURES/.uploaded"
printf '%s %s\n' "$SIZE" "$(date -r "$CAPTURES/$NAME" +%s%N)" >"$CAPTURES/.uploaded/$NAME"
is "one that is marked is uploaded" "$(get "$API" | jq -c '[.captures[].uploaded]')" "[true,false]"
is "files that are no bundles are counted" "$(jq .odd_files "$TEST_TMP/list.json")" 4
ok "the start page links each bundle" grep -q "href=\"$API/$NAME/html\"" <(get /)
ok "the start page holds no name that is none" sh -c "! grep -qE 'alert|link|fifo' '$TEST_TMP/list.json'"
is "a page of a bundle" "$(status "$API/$NAME/html")" 200
ok "it is the one of stallbox html" grep -q '<title>golden: reclaim-age</title>' <(get "$API/$NAME/html")
like "its script has no origin" "$(header_of Content-Security-Policy "$API/$NAME/html")" '^sandbox allow-scripts;'
is "a page of what is no bundle" "$(status "$API/$OTHER/html")" 500
like "says why there is none" "$(get "$API/$OTHER/html" | jq -r .error)" 'not a zstd frame|cannot read'

# ---- health and metrics ----------------------------------------------------------------
is "healthy" "$(status /-/healthy)" 200
is "ready while records are added" "$(status /-/ready) $(get /-/ready)" "200 ready"
get /metrics >"$TEST_TMP/metrics"
ok "promtool finds nothing wrong with the metrics" promtool check metrics <"$TEST_TMP/metrics"
is "and says nothing" "$(promtool check metrics <"$TEST_TMP/metrics" 2>&1)" ""
value() { is "$1 $2" "$(grep -F "$1 " "$TEST_TMP/metrics" | grep -v '^#')" "$1 $2"; }
value 'stallbox_agent_up' 1
value 'stallbox_build_info{version="0.1.0"}' 1
value 'stallbox_state{state="recording"}' 1
value 'stallbox_state{state="freezing"}' 0
value 'stallbox_history_seconds' 61.5
value 'stallbox_records_total{kind="on-cpu",cpu="1"}' 506
value 'stallbox_records_total{kind="off-cpu",cpu="0"}' 2003
value 'stallbox_losses_total{cause="evicted",kind="any",what="tasks_evicted",cpu="1"}' 13
value 'stallbox_losses_total{cause="truncated",kind="any",what="kernel_stacks_truncated",cpu="0"}' 19
value 'stallbox_overwritten_bytes_total{cpu="0"}' 65536
value 'stallbox_agent_cpu_seconds_total' 1.5
value 'stallbox_bpf_cpu_seconds_total' 3
value 'stallbox_trigger_armed{trigger="blocked"}' 0
value 'stallbox_trigger_armed{trigger="odd\"name\\"}' 1
value 'stallbox_trigger_armed{trigger="odd\"name\\",duplicate="2"}' 1
value 'stallbox_trigger_value{trigger="system"}' 1.5
value 'stallbox_trigger_fired_total{trigger="memory-pressure"}' 7
value 'stallbox_missing_evidence{evidence="lock contention"}' 1
value 'stallbox_freeze_seal_seconds_bucket{le="0.001"}' 2
value 'stallbox_freeze_seal_seconds_bucket{le="0.01"}' 3
value 'stallbox_freeze_seal_seconds_bucket{le="30"}' 3
value 'stallbox_freeze_seal_seconds_bucket{le="+Inf"}' 4
value 'stallbox_freeze_seal_seconds_count' 4
value 'stallbox_freeze_seal_seconds_sum' 40.25
value 'stallbox_trigger_outcomes_total{trigger="system",outcome="cooldown"}' 5
value 'stallbox_triggers_kept_back_total' 3
value 'stallbox_storage_held_captures' 1
value 'stallbox_storage_deleted_total{reason="max_use"}' 11
value 'stallbox_storage_stored_total{directory="/a"}' 23
value 'stallbox_storage_failures_total{directory="/a"}' 4
value 'stallbox_config_last_reload_successful' 0
value 'stallbox_config_reload_failures_total' 2
value 'stallbox_storage_captures' 2
value 'stallbox_storage_captures_bytes' $((SIZE + 300000))
value 'stallbox_storage_odd_files' 4
is "what is not known is not told" "$(grep -c '^stallbox_cpu_used_ratio' "$TEST_TMP/metrics")" 0
is "404s are counted" "$(status /nothing) $(metric 'stallbox_gateway_requests_total{route="none",code="404"}')" "404 1"
for m in $(grep -o 'stallbox_[a-z_]*' "$ROOT/gateway/stallbox-alerts.yml" | grep -v ^stallbox_upload | sort -u); do
	ok "there is the metric of an alert rule: $m" grep -q "^${m}[{ ]" "$TEST_TMP/metrics"
done
ok "promtool accepts the alert rules" promtool check rules "$ROOT/gateway/stallbox-alerts.yml"
ok "each alert fires when it should, and only then" sh -c "cd '$HERE' && promtool test rules alerts_test.yml"

# ---- freezes ---------------------------------------------------------------------------
alert() { # STATUS FINGERPRINT
	printf '{"version":"4","groupKey":"g","alerts":[{"status":"%s","labels":{"alertname":"Slow","instance":"db17"},"annotations":{"summary":"p99 above 1 s"},"startsAt":"2026-11-20T23:33:50Z","fingerprint":"%s"}]}' "$1" "$2"
}
is "a freeze names its bundle" "$(get "${AUTH[@]}" -d '{"reason":"checkout was slow"}' /api/v1/freeze | jq -c .)" \
	'{"state":"frozen","capture":"stub-20261120T233350Z-manual.stall.pb.zst"}'
is "the agent got the reason" "$(cat "$TEST_TMP/freezes")" "checkout was slow"
is "no reason, no body" "$(status "${AUTH[@]}" -X POST -H 'Content-Length: 0' /api/v1/freeze)" 202
is "a reason cannot be a second request" "$(status "${AUTH[@]}" -d '{"reason":"a\nstatus-json"}' /api/v1/freeze) $(tail -n 1 "$TEST_TMP/freezes")" \
	"202 a status-json"
is "a fourth one within half a minute has to wait" "$(status "${AUTH[@]}" -d '{}' /api/v1/freeze) $(header_of Retry-After "${AUTH[@]}" -d '{}' /api/v1/freeze)" "429 10"
is "an alert, too: Alertmanager comes again" "$(status "${AUTH[@]}" -d "$(alert firing z9)" /api/v1/webhook/alertmanager)" 503
is "no JSON" "$(status "${AUTH[@]}" -d 'x' /api/v1/freeze)" 400

# ---- hostile requests ------------------------------------------------------------------
while read -r verdict what; do
	if [ "$verdict" = ok ]; then pass "hostile: $what"; else fail "hostile: $what"; fi
done < <(python3 "$HERE/hostile.py" 127.0.0.1 "$PORT" "$NAME" || echo "bad the list of requests")
is "it still answers" "$(status /-/healthy)" 200
stop_gateway
is "it ends when it is asked to" "$GATEWAY_STATUS" 0

# ---- Alertmanager ----------------------------------------------------------------------
: >"$TEST_TMP/freezes"
start_gateway --anonymous read --token-file "freeze:$TEST_TMP/freeze.token" || exit 1
hook() { get "${AUTH[@]}" -d "$(alert "$@")" /api/v1/webhook/alertmanager | jq -r .state; }
is "an alert is a freeze" "$(hook firing a1) $(cat "$TEST_TMP/freezes")" "frozen alert Slow of db17: p99 above 1 s"
is "the same alert again is none" "$(hook firing a1)" seen-before
is "its end is none" "$(hook resolved a1)" resolved
echo cooldown >"$TEST_TMP/mode"
sleep_until_fresh() { wait_for 10 sh -c "curl -s '$URL/metrics' | grep -q 'state=\"cooldown\"} 1'"; }
ok "the gateway hears of the cooldown" sleep_until_fresh
is "in the cooldown it is held back" "$(hook firing b2)" held-back
echo refuses >"$TEST_TMP/mode"
wait_for 10 sh -c "curl -s '$URL/metrics' | grep -q 'state=\"recording\"} 1'"
for i in 1 2 3 4; do
	is "an agent that refuses: Alertmanager comes again ($i)" "$(status "${AUTH[@]}" -d "$(alert firing b2)" /api/v1/webhook/alertmanager)" 502
done
rm "$TEST_TMP/mode"
is "and then it is a freeze: those did not count against it" "$(hook firing b2)" frozen
is "one freeze for each alert" "$(wc -l <"$TEST_TMP/freezes")" 2
is "what came of each is counted" "$(get /metrics | sed -n 's/^stallbox_gateway_webhooks_total{result="\(.*\)"} /\1=/p' | paste -sd' ')" \
	"frozen=2 merged=0 seen-before=1 resolved=1 held-back=1 failed=4"

stop_gateway

# ---- an agent that does not do its work ------------------------------------------------
start_gateway --anonymous read --token-file "freeze:$TEST_TMP/freeze.token" || exit 1
echo still >"$TEST_TMP/mode"
not_ready() { [ "$(get /-/ready)" = "not ready: $1" ]; }
ok "not ready when nothing is recorded" wait_for 30 not_ready "nothing is recorded"
is "which is no success" "$(status /-/ready)" 503
rm "$TEST_TMP/mode"
ok "ready again when it is" wait_for 30 sh -c "[ \$(curl -s -o /dev/null -w '%{http_code}' '$URL/-/ready') = 200 ]"
echo dry-run >"$TEST_TMP/mode"
ok "not ready when each trigger is a dry run" wait_for 30 not_ready "every trigger that is armed is a dry run"
echo full >"$TEST_TMP/mode"
ok "not ready when no directory takes bundles" wait_for 30 not_ready "no directory takes a bundle: No space left on device; 1 are held in memory"
echo half-full >"$TEST_TMP/mode"
is_ready() { [ "$(get /-/ready)" = ready ]; }
ok "ready when one of them does" wait_for 30 is_ready
echo full >"$TEST_TMP/mode"
wait_for 30 not_ready "no directory takes a bundle: No space left on device; 1 are held in memory"
echo was-full >"$TEST_TMP/mode"
ok "ready when none did, and nobody has tried for two minutes" wait_for 30 is_ready
rm "$TEST_TMP/mode"
mv "$CAPTURES" "$CAPTURES.gone"
ok "not ready when bundles cannot be read" wait_for 30 not_ready "the bundles cannot be read: No such file or directory"
mv "$CAPTURES.gone" "$CAPTURES"
echo silent >"$TEST_TMP/mode"
ok "not ready when the agent gives no answer" wait_for 30 not_ready "no agent answers on '$STUB_SOCKET': Connection timed out"
kill "$STUB"
ok "not ready without an agent" wait_for 30 not_ready "no agent answers on '$STUB_SOCKET': Connection refused"
no_agent_but_storage() {
	[ "$(get /metrics | grep -E '^stallbox_(agent_up|storage_captures) ' | paste -sd' ')" = "stallbox_agent_up 0 stallbox_storage_captures 2" ]
}
ok "metrics say so, and storage is still told" wait_for 30 no_agent_but_storage
is "healthy is about the gateway alone" "$(status /-/healthy)" 200
is "no agent, no freeze" "$(status "${AUTH[@]}" -d '{}' /api/v1/freeze)" 503
finish
