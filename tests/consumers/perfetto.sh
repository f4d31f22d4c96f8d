#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The perfetto export through protoc with Perfetto's public schema: no field that it does not know, and every
# event of the bundle.
. "$(dirname "$0")/../lib.sh"
. "$ROOT/tests/perfetto.sh"
command -v protoc >/dev/null || { echo "1..0 # SKIP no protoc (Debian package protobuf-compiler)"; exit 77; }

decode_to() { decode_perfetto "$TEST_TMP/trace" >"$1"; }
check() { # WHAT BUNDLE
	"$STALLBOX" export --format perfetto -o "$TEST_TMP/trace" "$2"
	ok "protoc decodes it ($1)" decode_to "$TEST_TMP/text"
	is "the schema knows every field ($1)" "$(unknown_fields "$TEST_TMP/text")" 0
	perfetto_events "$TEST_TMP/text" | sort >"$TEST_TMP/theirs"
	bundle_events "$2" | sort >"$TEST_TMP/ours"
	is "events of each kind ($1)" "$(cut -f1 "$TEST_TMP/theirs" | uniq -c)" "$(cut -f1 "$TEST_TMP/ours" | uniq -c)"
	is "their times, lengths and stacks ($1)" "$(diff "$TEST_TMP/ours" "$TEST_TMP/theirs" | head -n 5)" ''
}

for b in "$ROOT"/tests/golden/*/*.stall.pb.zst; do
	check "$(basename "$b" .stall.pb.zst)" "$b"
done
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/all" events=5000 locks=1
check "all kinds" "$TEST_TMP/all"

# A field that is not in the schema is seen: number 4095 of a packet.
{ cat "$TEST_TMP/trace" && printf '\x0a\x04\xf8\xff\x01\x01'; } >"$TEST_TMP/odd"
decode_perfetto "$TEST_TMP/odd" >"$TEST_TMP/text"
is "an unknown field would be found" "$(unknown_fields "$TEST_TMP/text")" 1
# A slice that does not end, and a name that is nowhere: TYPE_SLICE_BEGIN on track 7, name_iid 99999.
{ cat "$TEST_TMP/trace" && printf '\x0a\x0e\x40\x01\x5a\x0a\x18\x01\x48\x01\x58\x07\x50\x9f\x8d\x06'; } >"$TEST_TMP/odd"
decode_perfetto "$TEST_TMP/odd" >"$TEST_TMP/text"
is "so would an open slice and a lost name" "$(perfetto_events "$TEST_TMP/text" | tail -n 2 | cut -f2 | tr '\n' ' ')" '1 1 '

"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/hostile" events=2000 locks=1 hostile=1
"$STALLBOX" export --format perfetto -o "$TEST_TMP/trace" "$TEST_TMP/hostile"
ok "hostile names: protoc decodes it" decode_to "$TEST_TMP/text"
is "hostile names: the schema knows every field" "$(unknown_fields "$TEST_TMP/text")" 0
is "hostile names: events of each kind" "$(perfetto_events "$TEST_TMP/text" | cut -f1 | sort | uniq -c)" \
	"$(bundle_events "$TEST_TMP/hostile" | cut -f1 | sort | uniq -c)"
finish
