#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Captures in a real store: each arrives, once, with the bytes that were written, whatever happens on the way.
# LONG=1: the store is away for a minute, endpoints are silent for as long as we are patient.
. "$(dirname "$0")/lib.sh"

expected() { # of what is in the directories: SHA256 KEY
	sha256sum "$CAPTURES"/*.zst "$FALLBACK"/*.zst 2>/dev/null |
		sed -E 's|^(\S+)  .*/([^/]*)-([0-9]{4})([0-9]{2})([0-9]{2})(T[^/]*)$|\1  fleet/a/\2/\3-\4-\5/\2-\3\4\5\6|' | sort
}
puts_stored() { proxy_log | grep -cE '^PUT .* 20[0-9]$'; }

rgw_start
proxy_start
wait_for 10 _answers "$PROXY"

# ---- what is there
for i in 1 2 3; do capture "web-1-20261120T23335$i.042Z-reclaim.stall.pb.zst" seed=$i; done
capture db.example.org-20261121T000000Z-manual.stall.pb.zst seed=4 events=300000
configure
ok "what is there is delivered" upload_once
is "under PREFIX/HOST/DATE/NAME, with the same bytes" "$(objects)" "$(expected)"
ok "and marked" all_marked
is "all of it is counted" "$(metric 'stallbox_upload_captures_total{result="stored"}') $(metric stallbox_upload_pending)" "4 0"
is "the bytes, too" "$(metric stallbox_upload_bytes_total)" "$(cat "$CAPTURES"/*.zst | wc -c)"
configure "Endpoint=$PROXY"
upload_once
is "what is marked is not asked about again" "$(proxy_log | grep -c fleet)" 0
rm "$CAPTURES"/.uploaded/web*
ok "without the marks it is delivered again" upload_once
is "and found to be there" "$(metric 'stallbox_upload_captures_total{result="present"}') $(puts_stored)" "3 0"

# ---- the store is away
upload_start
rgw_stop
away=$((SECONDS + ${LONG:+57} + 3))
for i in 1 2 3 4 5; do capture "web-1-20261121T01000$i.000Z-psi.stall.pb.zst" seed=1$i; done
ok "a store that is away is a failure that is counted" \
	wait_for 30 metric_above 'stallbox_upload_failures_total{cause="unreachable"}' 0
while [ $SECONDS -lt $away ]; do sleep 0.1; done
is "captures wait" "$(metric stallbox_upload_pending)" 5
rgw_again
ok "once it is back, they are delivered" wait_for 60 all_marked
is "all, with the same bytes" "$(objects)" "$(expected)"
is "each one once" "$(puts_stored)" 5

# ---- requests that break, one after the other, while the uploader runs
n=0
broken() { # MODE CAUSE
	local name before="stallbox_upload_failures_total{cause=\"$2\"}"
	n=$((n + 1))
	name=web-1-20261121T02000$n.000Z-psi.stall.pb.zst
	before=$(metric "$before")
	proxy_mode "$1:1"
	capture "$name" seed=2$n
	ok "$1: delivered after all" wait_for 60 marked "$name"
	is "$1: the failure is counted as $2" "$(metric "stallbox_upload_failures_total{cause=\"$2\"}")" $((before + 1))
}
broken busy busy
broken flip mismatch
is "flip: the store itself refused it" "$(proxy_log | grep -c ' flip 400$')" 1
broken cut unreachable
stored=$(puts_stored)
broken deaf unreachable
is "deaf: what was stored without an answer is not stored again" "$(($(puts_stored) - stored))" 1
[ -z "${LONG:-}" ] || broken stall slow
is "all of it is there, with the same bytes" "$(objects)" "$(expected)"

# ---- credentials
configure "Endpoint=$PROXY"
sed -i 's/^aws_secret_access_key.*/aws_secret_access_key = wrong/' "$TEST_TMP/credentials"
capture web-1-20261121T030000.000Z-psi.stall.pb.zst seed=31
ok "a wrong secret is a failure of its own kind" wait_for 30 metric_above 'stallbox_upload_failures_total{cause="refused"}' 0
like "and said with the store's words" "$(cat "$LOG")" "cannot store $PROXY: refused: status 403 SignatureDoesNotMatch"
ok "which comes again and again" wait_for 30 metric_above 'stallbox_upload_failures_total{cause="refused"}' 2
is "which nobody has to read twice" "$(grep -c SignatureDoesNotMatch "$LOG")" 1
is "the secret is in no message and no metric" "$(grep -cF "$SECRET" "$LOG" "$STATUS" | tr '\n' ' ')" "$LOG:0 $STATUS:0 "
configure "Endpoint=$PROXY"
ok "the right one is taken up without a restart" wait_for 30 marked web-1-20261121T030000.000Z-psi.stall.pb.zst

# ---- files
name=web-1-20261121T040000.000Z-psi.stall.pb.zst
make_bundle() { "$BUILD/tests/helpers/make_bundle" "$@"; }
make_bundle "$TEST_TMP/whole" seed=41
half=$(($(stat -c %s "$TEST_TMP/whole") / 2))
head -c $half "$TEST_TMP/whole" >"$CAPTURES/$name"
ok "a bundle without a footer waits" wait_for 30 metric_is stallbox_upload_pending 1
tail -c +$((half + 1)) "$TEST_TMP/whole" >>"$CAPTURES/$name"
ok "once it is completed, it is delivered" wait_for 30 marked "$name"
is "and was not before" "$(proxy_log | grep -c "^PUT .*$name ")" 1
is "none was sent unfinished so far" "$(metric stallbox_upload_unfinished_total)" 0
head -c $half "$TEST_TMP/whole" >"$TEST_TMP/cut" && touch -d '-10 minutes' "$TEST_TMP/cut"
mv "$TEST_TMP/cut" "$CAPTURES/web-1-20261121T041000.000Z-psi.stall.pb.zst"
ok "one whose writer is gone is delivered as it is, and counted" wait_for 30 metric_is stallbox_upload_unfinished_total 1
make_bundle "$TEST_TMP/elsewhere" seed=43
ln -s "$TEST_TMP/elsewhere" "$CAPTURES/web-1-20261121T042000.000Z-psi.stall.pb.zst"
cp "$TEST_TMP/whole" "$CAPTURES/what is this.stall.pb.zst"
ok "a name that is none of a capture is left alone, and counted" wait_for 90 metric_is stallbox_upload_foreign_files 1
make_bundle "$FALLBACK/$name" seed=42
ok "another capture of the same name is stored beside the first" wait_for 90 metric_is stallbox_upload_renamed_total 1
is "a symbolic link was not followed meanwhile" "$(objects | grep -c T042000)" 0
rm "$CAPTURES"/what* "$CAPTURES"/web-1-20261121T042000*
hash=$(sha256sum <"$FALLBACK/$name" | cut -c1-64)
is "with its hash in the key" "$(objects | grep "$hash")" \
	"$hash  fleet/a/web-1/2026-11-21/${name%.stall.pb.zst}.${hash:0:12}.stall.pb.zst"
rm "$FALLBACK/$name"
is "nothing was overwritten" "$(objects | grep -v "$hash")" "$(expected)"
mv "$CAPTURES/.uploaded" "$TEST_TMP/marks" && : >"$CAPTURES/.uploaded"
capture web-1-20261121T050000.000Z-psi.stall.pb.zst seed=51
ok "a mark that cannot be written is a failure that is counted" wait_for 30 metric_above stallbox_upload_mark_failures_total 1
rm "$CAPTURES/.uploaded" && mv "$TEST_TMP/marks" "$CAPTURES/.uploaded"
ok "until it can be" wait_for 30 marked web-1-20261121T050000.000Z-psi.stall.pb.zst
is "the capture itself was sent once" "$(proxy_log | grep -c T050000)" 1

# ---- the uploader is killed
proxy_mode stall:1
capture web-1-20261121T060000.000Z-psi.stall.pb.zst seed=61
in_flight() { proxy_log | grep -q 'T060000.* stall '; }
ok "an upload is under way" wait_for 30 in_flight
kill -KILL "$UPLOAD_PID"
wait "$UPLOAD_PID" 2>/dev/null
upload_start
ok "killed in the middle of it, the next one delivers" wait_for 30 marked web-1-20261121T060000.000Z-psi.stall.pb.zst
proxy_mode stall:1
capture web-1-20261121T061000.000Z-psi.stall.pb.zst seed=62
in_flight() { proxy_log | grep -q 'T061000.* stall '; }
wait_for 30 in_flight
started=$SECONDS
upload_stop
is "asked to end in the middle of one, it does" $? 0
between "soon" $((SECONDS - started)) 0 10

# ---- endpoints
configure Endpoint=http://127.0.0.1:9
upload_once
is "nobody listens: exit status 1" "$? $(metric 'stallbox_upload_failures_total{cause="unreachable"}')" "1 1"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
	-keyout "$TEST_TMP/key.pem" -out "$TEST_TMP/cert.pem" 2>/dev/null
PROXY=http://127.0.0.1:7482 proxy_start "$TEST_TMP/cert.pem" "$TEST_TMP/key.pem"
configure Endpoint=https://localhost:7482
wait_for 10 curl -sk -o /dev/null https://localhost:7482
upload_once
is "a certificate that nobody vouches for: nothing is sent" "$? $(proxy_log | grep -c PUT)" "1 0"
like "and that is what it says" "$(cat "$LOG")" 'unreachable: SSL certificate problem'
SSL_CERT_FILE=$TEST_TMP/cert.pem ok "a trusted one: delivered" upload_once
is "by TLS" "$(proxy_log | grep -c '^PUT .* 200$')" 1
is "all that was ever captured is in the store, with the same bytes" "$(objects | grep -v "$hash")" "$(expected)"

# ---- the store's own limit
if [ -n "${LONG:-}" ]; then
	# Refused for half a second: by the other one's data, not by a short request of its before them, which this one may hold up in turn.
	refused() {
		local try
		for try in 1 2 3 4 5; do
			[ "$(curl -s -o /dev/null -w '%{http_code}' "$RGW")" = 503 ] || return 1
			sleep 0.1
		done
	}
	configure
	rgw_stop
	rgw_again --rgw-max-concurrent-requests=1 --rgw-scheduler-type=throttler
	head -c 2000000 /dev/urandom >"$TEST_TMP/other"
	RCLONE_BWLIMIT=200k _rclone copyto "$TEST_TMP/other" :s3:captures/other &
	capture web-1-20261121T070000.000Z-psi.stall.pb.zst seed=71
	ok "another upload is under way" wait_for 30 refused
	upload_once
	like "a store with too many requests says so" "$(cat "$LOG")" 'busy: status 503 SlowDown'
	wait $!
	ok "and takes the capture later" upload_once
fi

finish
