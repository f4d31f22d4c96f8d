#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# From an alert to a bundle, with the real programs: Prometheus scrapes the gateway, a rule fires, Alertmanager posts to
# the webhook, stallboxd freezes, the bundle is downloaded. And metrics against what the recorder itself says.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
# shellcheck source=tests/agent.sh
. "$(dirname "$0")/../agent.sh"

for c in prometheus prometheus-alertmanager promtool curl jq; do
	if ! command -v $c >/dev/null; then
		echo "1..0 # SKIP $c is not installed"
		exit 77
	fi
done

start_agent --post 1s --cooldown 1s --trigger 'kernel:blocked(D)>50s:count=1000' || exit 1
(umask 077 && openssl rand -hex 32 >"$TEST_TMP/token")
read -r PORT PROMETHEUS ALERTMANAGER <<<"$(free_ports 3)"
URL=http://127.0.0.1:$PORT
AUTH=(-H "Authorization: Bearer $(cat "$TEST_TMP/token")")
spawn "$BUILD/stallbox-gateway" --config /dev/null --listen "127.0.0.1:$PORT" --spool "$SPOOL" --fallback "$TEST_TMP/fallback" --socket "$SOCKET" \
	--renderer "$STALLBOX" --token-file "read:$TEST_TMP/token" --token-file "freeze:$TEST_TMP/token" 2>"$TEST_TMP/gateway.log"
if ! wait_for 20 grep -q 'listening on' "$TEST_TMP/gateway.log"; then
	fail "the gateway starts" "$(cat "$TEST_TMP/gateway.log")"
	finish
fi
get() { curl -s --max-time 30 "${AUTH[@]}" "$URL$1"; }
code() { curl -s -o /dev/null -w '%{http_code}' --max-time 30 "${AUTH[@]}" "$URL$1"; }
metric() { get /metrics | sed -n "s/^$1 //p"; }

# ---- the recorder's own counts ---------------------------------------------------------
is "ready while it records" "$(code /-/ready)" 200
get /metrics >"$TEST_TMP/metrics"
is "promtool finds nothing wrong" "$(grep -c '^stallbox_agent_up 1$' "$TEST_TMP/metrics") $(promtool check metrics <"$TEST_TMP/metrics" 2>&1)" "1 "
# Between two looks of ours: what the metrics say is not less than the one and not more than the other.
BEFORE=$(status_of '.recorded | [.[]] | add')
sleep 1.1 # the gateway asks once a second at most
SEEN=$(get /metrics | awk '/^stallbox_records_total/ { n += $2 } END { print n }')
AFTER=$(status_of '.recorded | [.[]] | add')
between "records of all CPUs and kinds" "$SEEN" "$BEFORE" "$AFTER"
is "each CPU is there" "$(get /metrics | grep -c '^stallbox_records_total{kind="on-cpu",')" "$(($(sed 's/.*-//' /sys/devices/system/cpu/possible) + 1))"
is "each trigger is there" "$(get /metrics | grep -c '^stallbox_trigger_armed{.*} 1$')" 1

# ---- an alert --------------------------------------------------------------------------
cat >"$TEST_TMP/rules.yml" <<YML
groups:
  - name: test
    rules:
      - alert: CheckoutSlow
        expr: stallbox_agent_up{job="stallbox"} == 1
        annotations: { summary: p99 above 1 s }
YML
cat >"$TEST_TMP/prometheus.yml" <<YML
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ rules.yml ]
alerting:
  alertmanagers: [ { static_configs: [ { targets: [ "127.0.0.1:$ALERTMANAGER" ] } ] } ]
scrape_configs:
  - job_name: stallbox
    authorization: { credentials_file: $TEST_TMP/token }
    static_configs: [ { targets: [ "127.0.0.1:$PORT" ] } ]
YML
cat >"$TEST_TMP/alertmanager.yml" <<YML
route: { receiver: stallbox, group_wait: 0s, group_interval: 1s, repeat_interval: 1s }
receivers:
  - name: stallbox
    webhook_configs:
      - url: $URL/api/v1/webhook/alertmanager
        http_config: { authorization: { credentials_file: $TEST_TMP/token } }
YML
is "nothing was frozen before" "$(bundle_count)" 0
# Debian's reads its templates in /usr/share: where it is unpacked and not installed, by a mount that it alone has.
alertmanager=(prometheus-alertmanager)
[ -e /usr/share/prometheus/alertmanager ] || alertmanager=(unshare --mount sh -c \
	'mount -t overlay overlay -o lowerdir="$0:/usr/share" /usr/share && exec prometheus-alertmanager "$@"' "$ROOT/build/tools/usr/share")
spawn "${alertmanager[@]}" --config.file="$TEST_TMP/alertmanager.yml" --storage.path="$TEST_TMP/am" \
	--web.listen-address="127.0.0.1:$ALERTMANAGER" --cluster.listen-address= >"$TEST_TMP/am.log" 2>&1
spawn prometheus --config.file="$TEST_TMP/prometheus.yml" --storage.tsdb.path="$TEST_TMP/tsdb" \
	--web.listen-address="127.0.0.1:$PROMETHEUS" >"$TEST_TMP/prometheus.log" 2>&1
frozen() { [ "$(bundle_count)" = 1 ] && complete "$(newest_bundle)"; }
ok "the alert becomes a bundle" wait_for 90 frozen
frozen || for log in am prometheus gateway; do tail -n 5 "$TEST_TMP/$log.log"; done | sed 's/^/# /'
BUNDLE=$(newest_bundle)
is "which says why" "$("$STALLBOX" info --json "$BUNDLE" | jq -r .trigger.detail)" "alert CheckoutSlow of 127.0.0.1:$PORT: p99 above 1 s"
# Alertmanager sends a firing alert again after each repeat_interval.
again() { [ "$(metric 'stallbox_gateway_webhooks_total{result="seen-before"}')" -ge 2 ]; }
ok "the alert is sent again" wait_for 90 again
is "and stays one bundle" "$(bundle_count) $(metric 'stallbox_gateway_webhooks_total{result="frozen"}')" "1 1"
scraped() {
	[ "$(curl -s --max-time 10 "http://127.0.0.1:$PROMETHEUS/api/v1/query?query=stallbox_captures_total" | jq -r '.data.result[0].value[1]')" = 1 ]
}
ok "Prometheus has the capture in its database" wait_for 60 scraped
is "the freeze is in the histogram of latencies" "$(metric stallbox_freeze_seal_seconds_count) $(metric stallbox_freeze_durable_seconds_count)" "1 1"

# ---- the bundle ------------------------------------------------------------------------
ID=$(get /api/v1/captures | jq -r '.captures[0].id')
ok "it is in the list" test -n "$ID" -a "$ID" = "${BUNDLE##*/}"
like "with the time and the trigger that its name tells" \
	"$(get /api/v1/captures | jq -r '.captures[0] | "\(.time) \(.trigger)"')" '^20[0-9]{2}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]{3})?Z [a-z]+'
get "/api/v1/captures/$ID" >"$TEST_TMP/downloaded"
ok "downloaded, it is the same" cmp "$TEST_TMP/downloaded" "$BUNDLE"
ok "and whole" "$STALLBOX" verify "$TEST_TMP/downloaded"
is "as a page" "$(code "/api/v1/captures/$ID/html")" 200
FROZEN=$(curl -s --max-time 30 "${AUTH[@]}" -d '{"reason":"asked"}' "$URL/api/v1/freeze" | jq -r .capture)
two() { complete "$SPOOL/$FROZEN"; }
ok "a freeze that is asked for becomes the bundle that was named" wait_for 60 two

# ---- and without the agent -------------------------------------------------------------
stop_agent
gone() { [ "$(code /-/ready)" = 503 ] && [ "$(metric stallbox_agent_up)" = 0 ]; }
ok "not ready when the agent has ended, and the metrics say so" wait_for 30 gone
is "its bundles are still there" "$(get /api/v1/captures | jq .total)" 2
finish
