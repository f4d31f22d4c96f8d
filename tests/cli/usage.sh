#!/usr/bin/env bash
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
for c in info report list flame diff fold export html events order top hist blame series verify recover freeze status export-pinned unload; do
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
PostWindow=15
Cooldwon=3s
[Trigger web]
Spec=probe:tcp://127.0.0.1
[Nonsense]
x=y
CONF
code "stallboxd: a bad configuration" 78 agent --config "$TEST_TMP/conf"
like "every error with its line" "$OUT" 'conf:3: \[Recorder\] PostWindow.*conf:4: \[Recorder\] Cooldwon: unknown key.*conf:6: \[Trigger web\] Spec.*conf:7: '
code "stallboxd: --help beside a bad configuration" 0 agent --config "$TEST_TMP/conf" --help
code "stallboxd: --config twice" 2 agent --config "$TEST_TMP/conf" --config "$TEST_TMP/conf"
agent --help | tr -s "\n " " " >"$TEST_TMP/help"
for text in "those of the file and the default set are not" "from a trigger to the next bundle at the earliest (default 60s)" \
	"record holds of mmap_lock, system calls and softirqs exactly, from a trigger to the end of the post window"; do
	is "help wraps between words: $text" "$(grep -c "$text" "$TEST_TMP/help")" 1
done
code "stallboxd: a configuration that is not there" 78 agent --config "$TEST_TMP/none"
finish
