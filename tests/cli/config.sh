#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# check-config, show-config, and what is made of the table of keys: the shipped file and the manual page.
. "$(dirname "$0")/../lib.sh"

CONF=$TEST_TMP/stallbox.conf
SHIPPED=$BUILD/config/stallbox.conf
run() { # EXPECTED COMMAND...: output in $OUT
	local want=$1
	shift
	OUT=$("$STALLBOX" "$@" --config "$CONF" 2>&1)
	is "$*: exit status" $? "$want"
}
show() { "$STALLBOX" show-config --json --config "$1"; }

# ---- the shipped file ----
cp "$SHIPPED" "$CONF"
run 0 check-config
is "the shipped file changes nothing" "$(show "$CONF" | jq -c 'del(.files)')" "$(show /dev/null | jq -c 'del(.files)')"
sed '/^# Triggers/,$d' "$SHIPPED" | sed 's/^#\([A-Z]\)/\1/' >"$CONF"
run 0 check-config
is "nor does it with every setting uncommented" "$(show "$CONF" | jq -c '[.settings[] | [.key, .value]]')" \
	"$(show /dev/null | jq -c '[.settings[] | [.key, .value]]')"
is "then none has its default from elsewhere" "$(show "$CONF" | jq '[.settings[] | select(.source == "default")] | length')" 0
sed '/^# A trigger of your own/,$d' "$SHIPPED" | sed -n '/^# Triggers/,$p' | sed 's/^#\([A-Z[]\)/\1/' >"$CONF"
run 0 check-config
is "its triggers are the default set" "$(show "$CONF" | jq -c '[.triggers[] | [.name, .settings[0].value]]')" \
	"$(show /dev/null | jq -c '[.triggers[] | [.name, .settings[0].value]]')"
is "of which there are some" "$(show "$CONF" | jq '.triggers | length > 3')" true
for key in $(show /dev/null | jq -r '.settings[], .triggers[0].settings[] | .key'); do
	grep -q "^#$key=" "$SHIPPED" || fail "the shipped file has $key"
	grep -q "^\.BR $key =" "$BUILD/config/stallbox.conf.5" || fail "stallbox.conf(5) has $key"
done
is "of [Upload], SIGHUP changes what the recorder goes by" "$(show /dev/null | jq -c '[.settings[] | select(.section == "Upload" and .reload) | .key]')" '["DeleteAfter"]'
is "the manual page has no place left for keys" "$(grep -c '@KEYS@' "$BUILD/config/stallbox.conf.5")" 0

# ---- what is in force, and from where ----
mkdir "$CONF.d"
printf '[Recorder]\nPost=20s\nCooldown=5s\n[Trigger a]\nCondition=kernel:runq>1s\n' >"$CONF"
printf '# later\n[Recorder]\nPost=25s\n[Trigger a]\nPost=3s\n' >"$CONF.d/10-x.conf"
run 0 show-config
like "a drop-in wins, and is named" "$(grep ^Post <<<"$OUT" | head -n 1)" "^Post=25s +$CONF.d/10-x.conf:3$"
like "what it leaves alone is the file's" "$(grep ^Cooldown <<<"$OUT")" "^Cooldown=5s +$CONF:3$"
like "a trigger of both" "$OUT" "\[Trigger a\] Condition=kernel:runq>1s +$CONF:5 Post=3s +$CONF.d/10-x.conf:5"
run 0 check-config
like "all files are checked" "$OUT" "stallbox.conf: ok .*10-x.conf: ok 1 triggers instead of the default set"

# ---- what is wrong ----
printf '[Recorder]\nPsot=20s\n\033]0;x\007=1\n' >"$CONF"
printf '[Storage]\nMaxUse=1\n' >"$CONF.d/10-x.conf"
run 78 check-config
is "every error of every file, each on its line, harmless to a terminal" "$OUT" \
	"error: $CONF:2: [Recorder] Psot: unknown key, did you mean Post?
error: $CONF:3: [Recorder]: byte 0x1b at column 1, expected text in UTF-8 without control characters
error: $CONF.d/10-x.conf:2: [Storage] MaxUse: '1': expected a size with a unit from 1M to 1024T, such as 1G"
run 78 show-config
run 78 check-config --json
is "for programs, too" "$(jq -c '[.ok, (.errors | map([.line, .section, .key]))]' <<<"$OUT")" \
	'[false,[[2,"Recorder","Psot"],[3,"Recorder",""],[2,"Storage","MaxUse"]]]'
timeout -k 5 60 "$STALLBOXD" --foreground --config "$CONF" --socket "$TEST_TMP/no.sock" 2>"$TEST_TMP/err"
is "stallboxd ends with the same" $? 78
is "and the same errors" "$(cat "$TEST_TMP/err")" "$("$STALLBOX" check-config --config "$CONF" 2>&1)"
rm -r "$CONF" "$CONF.d"
run 78 check-config
like "a file that is not there" "$OUT" "stallbox.conf: cannot read it: No such file"
finish
