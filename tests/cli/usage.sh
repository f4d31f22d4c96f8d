#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Usage errors, bad input and exit codes.
. "$(dirname "$0")/../lib.sh"

code() { # WHAT EXPECTED COMMAND...: output in $OUT
	local what=$1 want=$2
	shift 2
	OUT=$("$@" 2>&1 </dev/null)
	is "$what: exit status" $? "$want"
}
code "no command" 2 "$STALLBOX"
code "an unknown command" 2 "$STALLBOX" frobnicate
like "is named" "$OUT" "unknown command 'frobnicate'"
for c in info report list flame diff fold export html events order top hist blame series verify recover get delete freeze status triggers doctor export-pinned unload completion check-config show-config; do
	code "$c --help" 0 "$STALLBOX" $c --help
	is "$c --help fits 80 columns" "$(awk 'length > 100' <<<"$OUT" | wc -l)" 0
	code "$c with an unknown option" 2 "$STALLBOX" $c --nope
	like "$c names it" "$OUT" "unknown option '--nope'.*try 'stallbox $c --help'"
done
code "help of a command" 0 "$STALLBOX" help flame
is "is what --help says" "$OUT" "$("$STALLBOX" flame --help)"
code "help of no command" 2 "$STALLBOX" help frobnicate
like "names it" "$OUT" "unknown command 'frobnicate'"
code "help" 0 "$STALLBOX" help
is "is --help" "$OUT" "$("$STALLBOX" --help)"
code "no bundle" 2 "$STALLBOX" info
code "a missing file" 3 "$STALLBOX" info "$TEST_TMP/none"
like "says so" "$OUT" "cannot read '.*none': No such file"
: >"$TEST_TMP/empty"
code "an empty file" 1 "$STALLBOX" info "$TEST_TMP/empty"
like "says so" "$OUT" 'the file is empty.*hint:'
echo "some text" >"$TEST_TMP/text"
code "a foreign file" 1 "$STALLBOX" fold "$TEST_TMP/text"
like "says what was expected" "$OUT" 'not a stallbox bundle.*offset|at offset 0.*not a stallbox bundle'
code "a directory" 1 "$STALLBOX" verify "$TEST_TMP"
code "an unknown kind" 2 "$STALLBOX" fold --kind foo "$TEST_TMP/text"
code "two kinds in one graph" 2 "$STALLBOX" fold --kind on-cpu,off-cpu "$TEST_TMP/text"
code "an unknown condition" 2 "$STALLBOX" events --while locked "$TEST_TMP/text"
like "says what there is" "$OUT" "--while 'locked': expected mmap-lock-held, reclaim or softirq"
code "an unknown state" 2 "$STALLBOX" events --state X "$TEST_TMP/text"
code "an empty window" 2 "$STALLBOX" events --since 1s --until -1s "$TEST_TMP/text"
code "a short form of an option that takes no value" 2 "$STALLBOX" flame -r x "$TEST_TMP/text"
like "is none" "$OUT" "unknown option '-r'"
code "no agent" 3 "$STALLBOX" status --socket "$TEST_TMP/no.sock"
like "with a hint" "$OUT" 'no agent answers.*hint: start it'
code "triggers without an agent" 3 "$STALLBOX" triggers --socket "$TEST_TMP/no.sock"
code "a socket with a long path" 2 "$STALLBOX" status --socket "$(printf '%0120d' 0)"
like "says what is expected" "$OUT" 'expected at most 107 bytes'
mkdir "$TEST_TMP/bundles"
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/bundles/h-20261120T233350.042Z-x.stall.pb.zst"
code "get without an agent" 0 "$STALLBOX" get --dir "$TEST_TMP/bundles" -o "$TEST_TMP/copy" h-20261120T233350.042Z-x.stall.pb.zst
ok "is the same" cmp "$TEST_TMP/copy" "$TEST_TMP/bundles/h-20261120T233350.042Z-x.stall.pb.zst"
code "get of what is not there" 3 "$STALLBOX" get --dir "$TEST_TMP/bundles" none.stall.pb.zst
code "get of a path" 2 "$STALLBOX" get --dir "$TEST_TMP/bundles" ../bundles/h-20261120T233350.042Z-x.stall.pb.zst
like "says what is expected" "$OUT" 'expected one that .stallbox list. gives, without a path'
"$STALLBOX" get --dir "$TEST_TMP/bundles" -o - h-20261120T233350.042Z-x.stall.pb.zst 2>"$TEST_TMP/err" >/dev/full
is "is a failure" "$? $(cat "$TEST_TMP/err")" "1 error: cannot copy 'h-20261120T233350.042Z-x.stall.pb.zst': No space left on device"
code "delete nothing" 2 "$STALLBOX" delete --dir "$TEST_TMP/bundles"
code "delete a path and a bundle" 2 "$STALLBOX" delete --dir "$TEST_TMP/bundles" h-20261120T233350.042Z-x.stall.pb.zst /etc/passwd
is "deletes neither" "$(find "$TEST_TMP/bundles" -type f | wc -l)" 1
code "delete a bundle and one that is not there" 3 "$STALLBOX" delete --dir "$TEST_TMP/bundles" h-20261120T233350.042Z-x.stall.pb.zst none.stall.pb.zst
is "names what is not there" "$OUT" "error: cannot delete 'none.stall.pb.zst': there is no such bundle"
is "and deletes neither" "$(find "$TEST_TMP/bundles" -type f | wc -l)" 1
code "delete a bundle" 0 "$STALLBOX" delete --dir "$TEST_TMP/bundles" h-20261120T233350.042Z-x.stall.pb.zst
is "deletes it" "$(find "$TEST_TMP/bundles" -type f | wc -l)" 0
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/b"
code "nothing matches" 0 "$STALLBOX" fold --kind off-cpu --pid 4000000000 "$TEST_TMP/b"
is "and fold says so" "$OUT" "warning: no off-cpu event matches"
"$STALLBOX" events "$TEST_TMP/b" >/dev/full 2>"$TEST_TMP/err"
is "a full disk is a failure" $? 1
like "and is told" "$(cat "$TEST_TMP/err")" 'No space left'

# What accepts what it should refuse begins to record: not on the host's own paths, and not at all, for bpffs cannot be
# mounted on a file.
agent() {
	timeout -k 5 60 "$STALLBOXD" --socket "$TEST_TMP/no.sock" --spool "$TEST_TMP/captures" \
		--fallback "$TEST_TMP/fallback" --bpffs "$TEST_TMP/empty" "$@"
}
code "stallboxd: what is accepted, without a place for it" 1 agent --foreground
like "ends at that" "$OUT" "cannot use bpffs at .*empty"
code "stallboxd: an unknown option" 2 agent --nope
code "stallboxd: a bad trigger" 2 agent --trigger 'psi:memory:ful:150ms/2s'
like "names the word" "$OUT" "unknown pressure 'ful'"
code "stallboxd: a size without a unit" 2 agent --memory 64
like "says what is expected" "$OUT" 'expected a size with a unit'
for v in 1 0% 100.1% -1% 0x1% nan% '1 %' 1e400% ''; do
	code "stallboxd: no CPU budget: '$v'" 2 agent --cpu-budget "$v"
done
code "stallboxd: a CPU budget" 0 agent --cpu-budget 0.5% --help
cat >"$TEST_TMP/conf" <<'CONF'
[Recorder]
Frequency=99
Post=15
Cooldwon=3s
[Trigger web]
Condition=probe:tcp://127.0.0.1
[Nonsense]
x=y
CONF
code "stallboxd: a bad configuration" 78 agent --config "$TEST_TMP/conf"
like "every error with its line" "$OUT" 'conf:3: \[Recorder\] Post: .*conf:4: \[Recorder\] Cooldwon: unknown key, did you mean Cooldown.*conf:6: \[Trigger web\] Condition.*conf:7: '
code "stallboxd: --help beside a bad configuration" 0 agent --config "$TEST_TMP/conf" --help
code "stallboxd: --config twice" 2 agent --config "$TEST_TMP/conf" --config "$TEST_TMP/conf"
agent --help | tr -s "\n " " " >"$TEST_TMP/help"
for text in "those of the file and the default set are not" "from a trigger to the next bundle at the earliest (default 60s)" \
	"when to record holds of mmap_lock, system calls and softirqs exactly"; do
	is "help wraps between words: $text" "$(grep -c "$text" "$TEST_TMP/help")" 1
done
code "stallboxd: the doctor goes on with a bad configuration" 1 agent --config "$TEST_TMP/conf" --doctor
like "and tells of it" "$OUT" 'conf:3: .*missing +configuration +wrong.*stallboxd cannot record here'
directories() { agent --doctor-json --spool "$1" --fallback "$2" | jq -r '[.checks[] | select(.name == "spool" or .name == "fallback") | .state] | join(" ")'; }
mkdir "$TEST_TMP/here"
is "the doctor: neither directory can be written" "$(directories "$TEST_TMP/conf/a" "$TEST_TMP/conf/b")" "degraded missing"
is "the first one cannot" "$(directories "$TEST_TMP/conf/a" "$TEST_TMP/here")" "degraded ok"
is "the second one cannot" "$(directories "$TEST_TMP/here" "$TEST_TMP/conf/b")" "ok degraded"
# With Endpoint= and nobody who uploads, bundles wait until there is no room for another one.
uploader() { # KEY=VALUE...: what the doctor says of it
	printf '%s\n' '[Upload]' "$@" >"$TEST_TMP/conf"
	agent --config "$TEST_TMP/conf" --doctor-json | jq -r '.checks[] | select(.name == "upload") | .state + ": " + .found + "; " + .costs'
}
if [ -e /run/stallbox-upload/status.prom ]; then
	skip "the doctor misses the uploader" "a stallbox-upload has run on this machine"
else
	like "the doctor misses the uploader" "$(uploader Endpoint=https://s3.example.com Bucket=captures CredentialsFile=/nonexistent)" \
		'^degraded: Endpoint= is set, and stallbox-upload does not run: [^ ]+ is not there; nothing is delivered; bundles wait'
	like "that of profiles, too" "$(uploader PyroscopeUrl=http://127.0.0.1:4040)" '^degraded: PyroscopeUrl= is set, .*; no profile is pushed$'
fi
is "and no uploader where none is wanted" "$(uploader Retry=5m)" "ok: neither Endpoint= nor PyroscopeUrl= is set; "
code "stallboxd: a configuration that is not there" 78 agent --config "$TEST_TMP/none"
finish
