# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# A real object store: Ceph's RADOS gateway over a monitor and a store in memory, in a network namespace of its own.
# And a proxy in front of it that breaks requests on demand.
#
#   rgw_start            all of it; about 5 s. rgw_stop, rgw_again: the gateway alone, its data stay
#   proxy_start [TLS]    $PROXY; proxy_mode MODE: see proxy.py; proxy_log: METHOD PATH MODE STATUS, a line for each request
#   capture NAME [key=value...]   a bundle in $CAPTURES, as the recorder leaves it
#   configure [KEY=VALUE...]      [Upload] of the configuration, over what works
#   upload_once, upload_start, upload_stop; metric NAME
#   marked NAME; all_marked
#   objects              SHA256 KEY of everything in the bucket, by another client

if [ -z "${UPLOAD_NETNS:-}" ]; then
	for tool in ${UPLOAD_NEEDS-radosgw ceph-mon ceph-osd rclone}; do
		if ! command -v "$tool" >/dev/null; then
			echo "# skip: $tool is not installed; make deps-upload installs it"
			exit 77
		fi
	done
	export UPLOAD_NETNS=1
	[ "$(id -u)" = 0 ] || exec unshare -r --net bash "$0" "$@"
	exec unshare --net bash "$0" "$@"
fi
ip link set lo up
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY AWS_CA_BUNDLE SSL_CERT_FILE

UPLOAD=$BUILD/stallbox-upload
CAPTURES=$TEST_TMP/captures FALLBACK=$TEST_TMP/fallback
STATUS=$TEST_TMP/status.prom CONF=$TEST_TMP/stallbox.conf LOG=$TEST_TMP/upload.log
CEPH=$TEST_TMP/ceph
RGW=http://127.0.0.1:7480 PROXY=http://127.0.0.1:7481
KEY_ID=STALLBOXTEST SECRET='se+cr/et:with"odd=chars'
mkdir -p "$CAPTURES/.uploaded" "$FALLBACK/.uploaded" "$CEPH"/{mon,osd,rgw,run}

_ceph() { timeout 120 "$@" -c "$CEPH/ceph.conf"; }

_rgw_conf() {
	cat >"$CEPH/ceph.conf" <<-END
		[global]
		fsid = $1
		mon host = v1:127.0.0.1:6789
		auth cluster required = none
		auth service required = none
		auth client required = none
		keyring = /dev/null
		run dir = $CEPH/run
		admin socket =
		log file = $CEPH/\$name.log
		mon data = $CEPH/mon
		mon data avail crit = 0
		paxos propose interval = 0.05
		paxos min wait = 0.01
		mon allow pool size one = true
		osd data = $CEPH/osd
		osd objectstore = memstore
		memstore device bytes = 1073741824
		osd pool default size = 1
		osd pool default min size = 1
		osd pool default pg num = 1
		osd pool default pgp num = 1
		osd crush chooseleaf type = 0
		public addr = 127.0.0.1
		cluster addr = 127.0.0.1
		ms bind msgr2 = false
		rgw data = $CEPH/rgw
		rgw frontends = beast endpoint=${RGW#http://}
	END
}

_answers() { curl -s -o /dev/null "$1"; }
# shellcheck disable=SC2120 # options are for those who source this
rgw_again() {
	spawn radosgw -c "$CEPH/ceph.conf" -n client.rgw -f "$@" >"$CEPH/rgw.out" 2>&1
	RGW_PID=$SPAWNED
	wait_for 60 _answers "$RGW"
}
rgw_stop() {
	kill -KILL "$RGW_PID"
	wait "$RGW_PID" 2>/dev/null
}
# About one in five does not get past its first words to the monitor. The next one does.
_osd_is_up() { _ceph ceph osd stat 2>/dev/null | grep -q ' 1 up'; }
_osd_start() {
	local try
	for try in 1 2 3 4; do
		spawn ceph-osd -c "$CEPH/ceph.conf" -i 0 -f >"$CEPH/osd.out" 2>&1
		wait_for 15 _osd_is_up && return
		echo "# ceph-osd did not come up, try $try" >&2
		kill -KILL "$SPAWNED"
		wait "$SPAWNED" 2>/dev/null
	done
	return 1
}

rgw_start() {
	_rgw_start && return
	tail -n 15 "$CEPH"/*.out | cut -c1-300
	exit 1 # without a plan: a failure
}
_rgw_start() {
	local fsid osd
	fsid=$(cat /proc/sys/kernel/random/uuid)
	osd=$(cat /proc/sys/kernel/random/uuid)
	_rgw_conf "$fsid"
	{
		monmaptool --create --fsid "$fsid" --addv a '[v1:127.0.0.1:6789]' "$CEPH/monmap"
		_ceph ceph-mon -i a --mkfs --monmap "$CEPH/monmap"
	} >"$CEPH/start.out" 2>&1
	spawn ceph-mon -c "$CEPH/ceph.conf" -i a -f >"$CEPH/mon.out" 2>&1
	{
		_ceph ceph osd new "$osd"
		_ceph ceph-osd -i 0 --mkfs --osd-uuid "$osd"
		_ceph ceph osd crush add osd.0 1.0 root=default
	} >>"$CEPH/start.out" 2>&1
	_osd_start || return
	_ceph radosgw-admin -n client.rgw user create --uid=u --display-name=u \
		--access-key="$KEY_ID" --secret-key="$SECRET" >>"$CEPH/start.out" 2>&1
	rgw_again && _rclone mkdir :s3:captures
}

# The other client: rclone ARGUMENTS..., for the remote ":s3:".
_rclone() {
	RCLONE_CONFIG=/dev/null RCLONE_S3_PROVIDER=Ceph RCLONE_S3_ENDPOINT=$RGW RCLONE_S3_ACCESS_KEY_ID=$KEY_ID \
		RCLONE_S3_SECRET_ACCESS_KEY=$SECRET rclone -q --retries 1 "$@"
}
objects() { _rclone hashsum SHA256 --download :s3:captures | awk '{ print $1 "  " $2 }' | sort; }

proxy_start() { # [CERT KEY]
	: >"$TEST_TMP/proxy.log"
	proxy_mode pass
	spawn python3 "$ROOT/tests/upload/proxy.py" "${PROXY##*:}" "${RGW##*:}" "$TEST_TMP/proxy.mode" "$TEST_TMP/proxy.log" "$@"
}
proxy_mode() { echo "$1" >"$TEST_TMP/proxy.mode.new" && mv "$TEST_TMP/proxy.mode.new" "$TEST_TMP/proxy.mode"; }
proxy_log() { cat "$TEST_TMP/proxy.log"; }

capture() {
	"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/bundle" "${@:2}" && mv "$TEST_TMP/bundle" "$CAPTURES/$1"
}

configure() {
	local line
	printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$KEY_ID" "$SECRET" >"$TEST_TMP/credentials"
	chmod 600 "$TEST_TMP/credentials"
	{
		printf '[Storage]\nDirectory=%s\nFallback=%s\n[Upload]\n' "$CAPTURES" "$FALLBACK"
		printf '%s\n' "Endpoint=$RGW" Bucket=captures Region=default Prefix=fleet/a Retry=2s \
			"CredentialsFile=$TEST_TMP/credentials" "$@" |
			awk -F= '{ last[$1] = $0 } END { for (k in last) if (last[k] != k "=") print last[k] }'
	} >"$CONF"
}
marked() { [ -s "$CAPTURES/.uploaded/$1" ]; }
all_marked() { [ "$(find "$CAPTURES/.uploaded" -type f | wc -l)" = "$(find "$CAPTURES" -maxdepth 1 -name '*.zst' | wc -l)" ]; }
upload_once() { "$UPLOAD" --config "$CONF" --status "$STATUS" --once "$@" >"$LOG" 2>&1; }
upload_start() {
	spawn "$UPLOAD" --config "$CONF" --status "$STATUS" "$@" 2>"$LOG"
	UPLOAD_PID=$SPAWNED
}
upload_stop() {
	kill "$UPLOAD_PID"
	wait "$UPLOAD_PID"
}
metric() { awk -v name="$1" '$1 == name { print $2 }' "$STATUS"; }
metric_is() { [ "$(metric "$1")" = "$2" ]; }
metric_above() { [ "$(metric "$1")" -gt "$2" ]; }
