#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Every export has fold's totals, holds under filters, and stays valid with hostile names.
# Those who really read these formats are in tests/consumers.
. "$(dirname "$0")/../lib.sh"

B=$TEST_TMP/b.stall.pb.zst
H=$TEST_TMP/h.stall.pb.zst
KINDS="on-cpu off-cpu reclaim blocked lock-wait wakeup lock-hold syscall softirq block-io slab hardirq"
"$BUILD/tests/helpers/make_bundle" "$B" events=5000 locks=1 || { fail "make_bundle"; finish; }
"$BUILD/tests/helpers/make_bundle" "$H" events=2000 locks=1 hostile=1
export_() { "$STALLBOX" export --format "$@"; }
total() { "$STALLBOX" fold --kind "$1" "${@:2}" | awk '{n += $NF} END {printf "%.0f\n", n}'; }

# perf script, read the way stackcollapse-perf.pl does: one stack per paragraph, weight of the header.
cat >"$TEST_TMP/collapse.pl" <<'PERL'
my ($comm, $period, @stack, %sum);
while (<STDIN>) {
	chomp;
	if (/^\s*$/) {
		$sum{join(";", $comm, @stack)} += $period if defined $comm;
		undef $comm;
		@stack = ();
	} elsif (/^(\S.+?)\s+(\d+)\/*(\d+)*\s+/) {
		($comm) = /^(\S.+?)\s+\d+\/\d+\s/;
		($period) = /:\s*(\d+)\s+\S+:\s*$/ or die "no period: $_\n";
		$comm =~ s/ /_/g;
	} elsif (/^\s*(\w+)\s*(.+) \((.*)\)/) {
		my ($pc, $name, $module) = ($1, $2, $3);
		unshift @stack, $module eq "[kernel.kallsyms]" ? "${name}_[k]" : $name;
	} else {
		die "neither header nor frame: $_\n";
	}
}
print "$_ $sum{$_}\n" for sort keys %sum;
PERL

for k in $KINDS; do
	want=$(total "$k" "$B")
	is "folded is fold: $k" "$(export_ folded --kind "$k" "$B")" "$("$STALLBOX" fold --kind "$k" "$B")"
	export_ perf-script --kind "$k" "$B" | perl "$TEST_TMP/collapse.pl" >"$TEST_TMP/collapsed"
	is "perf script: stacks and weights of $k" "$(sort "$TEST_TMP/collapsed")" "$("$STALLBOX" fold --kind "$k" "$B" | sort)"
	is "speedscope: weights of $k" "$(export_ speedscope --kind "$k" "$B" | jq '[.profiles[0].weights[]?] | add')" "$want"
	is "speedscope: hostile names, weights of $k" \
		"$(export_ speedscope --kind "$k" "$H" | jq '[.profiles[0].weights[]?] | add')" "$(total "$k" "$H")"
done

# Samples of which some stand for several.
T=$TEST_TMP/t.stall.pb.zst
"$BUILD/tests/helpers/make_bundle" "$T" events=5000 locks=1 thinned=1
thinned=$(total on-cpu "$T")
is "thinned samples: more than there are records" $((thinned > $("$STALLBOX" events --json --kind on-cpu "$T" | wc -l))) 1
export_ perf-script "$T" | perl "$TEST_TMP/collapse.pl" >"$TEST_TMP/collapsed"
is "thinned samples: perf script" "$(sort "$TEST_TMP/collapsed")" "$("$STALLBOX" fold "$T" | sort)"
is "thinned samples: speedscope, in all and by CPU" "$(export_ speedscope --kind on-cpu "$T" | jq -c '[.profiles[] | select(.name == "on-cpu (samples)") | .weights | add], [.profiles[] | select(.name | test("CPU")) | .weights | add] | add')" "$thinned
$thinned"
is "thinned samples: firefox" "$(export_ firefox --kind on-cpu "$T" | jq '[.threads[].samples.weight[]?] | add')" "$thinned"

if command -v go >/dev/null; then
	for x in B H T; do
		export_ pprof -o "$TEST_TMP/$x.pb.gz" "${!x}"
		for k in $KINDS; do
			unit=us
			case $k in on-cpu | blocked) unit= ;; esac
			go tool pprof -sample_index="$k" -unit="${unit:-auto}" -top "$TEST_TMP/$x.pb.gz" 2>"$TEST_TMP/err" >"$TEST_TMP/top"
			is "go tool pprof: total of $k ($x)" \
				"$(sed -n 's/.*% of \([0-9]*\)[a-z]* total$/\1/p; s/^Showing nodes accounting for 0, 0% of \([0-9]*\).*/\1/p' "$TEST_TMP/top" | sort -u)" \
				"$(total "$k" "${!x}")"
		done
	done
	hot=$("$STALLBOX" fold "$B" | awk '{n = $NF; sub(/ [0-9]+$/, ""); k = split($0, f, ";"); leaf[f[k]] += n}
		END {for (l in leaf) print leaf[l], l}' | sort -k1,1nr -k2 | head -n 1)
	go tool pprof -sample_index=on-cpu -top "$TEST_TMP/B.pb.gz" 2>/dev/null >"$TEST_TMP/top"
	is "go tool pprof: the hottest leaf has fold's weight" "$(awk 'f {print $1; exit} $1 == "flat" {f = 1}' "$TEST_TMP/top")" "${hot%% *}"
	like "go tool pprof shows the losses" "$(go tool pprof -comments "$TEST_TMP/B.pb.gz" 2>/dev/null)" '12345 records overwritten'
	like "go tool pprof knows threads" "$(go tool pprof -tags "$TEST_TMP/B.pb.gz" 2>/dev/null)" 'worker3'
	ok "go tool pprof draws every stack of hostile names" go tool pprof -raw -output "$TEST_TMP/raw" "$TEST_TMP/H.pb.gz"
else
	skip "go tool pprof" "no go command (Debian package golang-go)"
fi

# Filters cut every format alike.
cut=(--since -88s --until -80s --comm worker3)
n=$(total on-cpu "${cut[@]}" "$B")
between "samples behind the filter" "$n" 1 599
is "a filter: perf script" "$(export_ perf-script "${cut[@]}" "$B" | grep -c 'cpu-clock:$')" "$n"
is "a filter: NDJSON" "$(export_ ndjson --kind on-cpu "${cut[@]}" "$B" | jq -c 'select(.type == "event")' | wc -l)" "$n"
is "a filter: Firefox" "$(export_ firefox "${cut[@]}" "$B" | jq '[.threads[].samples.length] | add')" "$n"
is "a filter: perfetto" "$(export_ perfetto --kind on-cpu "${cut[@]}" "$B" | protoc --decode_raw | grep -c '^  66 {')" "$n"

# NDJSON holds what the bundle holds, and its ids lead somewhere.
export_ ndjson -o "$TEST_TMP/nd" "$B"
is "NDJSON: events" "$(jq -c 'select(.type == "event")' "$TEST_TMP/nd" | wc -l)" "$("$STALLBOX" events --json "$B" | wc -l)"
is "NDJSON: off-CPU time" "$(jq 'select(.type == "event" and .kind == "off-cpu").duration_ns' "$TEST_TMP/nd" | awk '{n += int(($1 + 500) / 1000)} END {print n}')" "$(total off-cpu "$B")"
is "NDJSON: sampled reclaim adds up to fold's" "$(jq 'select(.type == "event" and .kind == "reclaim") | .duration_ns * .weight' "$TEST_TMP/nd" | awk '{n += int(($1 + 500) / 1000)} END {print n}')" "$(total reclaim "$B")"
is "NDJSON: a hardirq" "$(jq -c 'select(.kind? == "hardirq") | [.irq, .name, .duration_ns]' "$TEST_TMP/nd")" '[27,"virtio0-input",6000000]'
is "NDJSON: losses, marks, stackshot" "$(jq -sc '[[.[] | select(.type == "loss").count], ([.[] | select(.type == "mark")] | length), ([.[] | select(.type == "shot")] | length)]' "$TEST_TMP/nd")" '[[12345],4,20]'
is "NDJSON: the own cost" "$(jq -S 'select(.type == "cost") | del(.type)' "$TEST_TMP/nd")" "$("$STALLBOX" info --json "$B" | jq -S '.own_cost | del(.programs)')"
is "NDJSON: no id leads nowhere" "$(jq -sc '([.[] | select(.type == "stack").id] + [0]) as $s | ([.[] | select(.type == "thread").id]) as $t |
	[.[] | select(.type == "event") | .kstack, .ustack] - $s + ([.[] | select(.type == "event").thread] - $t) | unique' "$TEST_TMP/nd")" '[]'

# Hostile names: valid UTF-8 without controls; the structure is that of the harmless bundle.
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/harmless" events=2000 locks=1
for f in folded speedscope firefox perf-script ndjson; do
	export_ $f -o "$TEST_TMP/out" "$H"
	ok "$f: valid UTF-8" iconv -f UTF-8 -t UTF-8 "$TEST_TMP/out" -o /dev/null
	is "$f: no control characters" "$(LC_ALL=C tr -d '\n\t -~\200-\377' <"$TEST_TMP/out" | wc -c)" 0
	case $f in
	speedscope | firefox) shape='[paths(type == "array" or type == "object") | map(tostring) | join("/")] | length' ;;
	ndjson) shape='keys | join(" ")' ;;
	*) continue ;;
	esac
	is "$f: hostile names change no structure" "$(jq -r "$shape" "$TEST_TMP/out" | sort | md5sum)" \
		"$(export_ $f "$TEST_TMP/harmless" | jq -r "$shape" | sort | md5sum)"
done
export_ perfetto "$H" | protoc --decode_raw >"$TEST_TMP/out"
is "perfetto: no raw escape in any text" "$(grep -cE '\\033|\\377' "$TEST_TMP/out")" 0
export_ perf-script "$H" | perl "$TEST_TMP/collapse.pl" >"$TEST_TMP/collapsed"
is "perf script: hostile names, the same number of frames and weights" \
	"$(awk -F';' '{n = split($0, w, " "); print NF, w[n]}' "$TEST_TMP/collapsed" | sort | awk '{f += $1 * $2; n += $2} END {print f, n}')" \
	"$("$STALLBOX" fold "$H" | awk -F';' '{n = split($0, w, " "); print NF, w[n]}' | awk '{f += $1 * $2; n += $2} END {print f, n}')"

# Wrong usage, and what cannot be written.
"$STALLBOX" export "$B" 2>"$TEST_TMP/err"
is "no format" $? 2
like "says which there are" "$(cat "$TEST_TMP/err")" 'folded, pprof, speedscope, firefox, perfetto, perf-script or ndjson'
export_ svg "$B" 2>"$TEST_TMP/err"
is "an unknown format" $? 2
export_ folded --kind on-cpu,off-cpu "$B" 2>"$TEST_TMP/err"
is "two kinds in a format of one" $? 2
export_ pprof --kind oom "$B" 2>"$TEST_TMP/err"
is "a kind without weights" $? 2
export_ ndjson -o "$TEST_TMP/no/such" "$B" 2>"$TEST_TMP/err"
is "an output that cannot be opened" $? 1
for f in folded pprof speedscope firefox perfetto perf-script ndjson; do
	export_ $f -o /dev/full "$B" 2>"$TEST_TMP/err"
	is "$f: a full disk is a failure" $? 1
	"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/empty" events=0
	ok "$f: a bundle without events" export_ $f -o "$TEST_TMP/out" "$TEST_TMP/empty"
	head -c 9000 "$B" >"$TEST_TMP/cut"
	ok "$f: a bundle cut short" bash -c "'$STALLBOX' export --format $f -o '$TEST_TMP/out' '$TEST_TMP/cut' 2>'$TEST_TMP/err'"
	like "$f: and it says so" "$(cat "$TEST_TMP/err")" 'warning: (damaged|the bundle has no footer)'
done
is "- is standard output" "$(export_ folded -o - "$B" | md5sum)" "$(export_ folded "$B" | md5sum)"
finish
