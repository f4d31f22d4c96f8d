#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# stallbox-upload: usage, and a configuration that is not enough, all of what is wrong with it at once.
. "$(dirname "$0")/../lib.sh"

UPLOAD=$BUILD/stallbox-upload
run() { OUT=$("$UPLOAD" --config "$TEST_TMP/conf" --status "$TEST_TMP/status" "$@" 2>&1); }
run --nope
is "an unknown option: exit status" $? 2
like "is named" "$OUT" "unknown option '--nope'.*try 'stallbox-upload --help'"
run --max-rate 10x
is "a rate that is none: exit status" $? 2
like "says what was expected" "$OUT" "expected 0 or 4K to 1024G, such as 500K or 10M, not '10x'"
# Less would look like a store that is too slow; more does not fit.
for rate in 999 4095 1025G 999999999999G 17179869185G 99999999999999999999; do
	run --max-rate $rate
	is "so is $rate" $? 2
done
for rate in 0 4096 4K 1024G; do
	run --max-rate $rate --version
	is "$rate is one" $? 0
done
run --help
is "--help: exit status" $? 0
is "--help fits 80 columns" "$(awk 'length > 80' <<<"$OUT" | wc -l)" 0
run
is "a configuration that is not there: exit status" $? 78
printf '[Storage]\nDirectory=%s\n' "$TEST_TMP" >"$TEST_TMP/conf"
run --once
is "nothing to upload to: exit status" $? 78
like "says what to set" "$OUT" 'neither \[Upload\] Endpoint= nor PyroscopeUrl= is set'
printf '[Upload]\nEndpoint=http://s3.example.com\nBucket=No_Bucket\nPrefix=/a\nCredentialsFile=%s\n' "$TEST_TMP/none" >"$TEST_TMP/conf"
run --once
is "wrong values: exit status" $? 78
like "the bucket" "$OUT" "Bucket='No_Bucket': expected 3 to 63"
like "the prefix" "$OUT" "Prefix='/a': expected"
like "the credentials" "$OUT" "CredentialsFile: .*none: No such file"
like "and that captures would cross the network in plain" "$OUT" 'warning: .*unencrypted'
printf '[Storage]\nDirectory=%s\n[Upload]\nPyroscopeUrl=http://pyroscope.example.com:4040\n' "$TEST_TMP" >"$TEST_TMP/conf"
run --once
like "profiles, too" "$OUT" 'warning: .*PyroscopeUrl=.*unencrypted'
is "no captures, nothing failed: exit status" "$(run --once; echo $?)" 0
printf '[Storage]\nDirectory=%s\nFallback=%s\n[Upload]\nPyroscopeUrl=https://pyroscope.example.com\n' "$TEST_TMP/none" "$TEST_TMP/conf" >"$TEST_TMP/conf"
run --once
is "directories that cannot be read: exit status" $? 1
like "each is named" "$OUT" "cannot look for captures in $TEST_TMP/none: No such file.*cannot look for captures in $TEST_TMP/conf: Not a directory"
mkdir "$TEST_TMP/none"
printf '[Storage]\nDirectory=%s\nFallback=%s\n[Upload]\nPyroscopeUrl=https://pyroscope.example.com\n' "$TEST_TMP/none" "$TEST_TMP/none2" >"$TEST_TMP/conf"
is "a fallback that was never needed is not missed: exit status" "$(run --once; echo "$?$OUT")" 0
printf '[default]\naws_access_key_id=a\naws_secret_access_key=b\n' >"$TEST_TMP/credentials"
chmod 644 "$TEST_TMP/credentials"
printf '[Upload]\nEndpoint=https://s3.example.com\nBucket=captures\nCredentialsFile=%s\n' "$TEST_TMP/credentials" >"$TEST_TMP/conf"
run --once
like "credentials that everybody can read" "$OUT" 'others may read it, expected mode 0600 or 0640'
finish
