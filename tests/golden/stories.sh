#!/usr/bin/env bash
# Three stalls recorded for real on Debian's 6.1 (in QEMU, by tests/workloads): what is in them stays
# readable and is found.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT/tests/golden/stories" || exit 1
said() { "$STALLBOX" report "$1.stall.pb.zst" | tr -s ' \n' ' '; }
first() { "$STALLBOX" report --json "$1.stall.pb.zst" | jq -r '.causes[0].rule'; }
for b in reclaim mmap softirq; do ok "$b is whole" "$STALLBOX" verify $b.stall.pb.zst; done

is "reclaim: the verdict" "$(first reclaim)" reclaim-livelock
like "reclaim: by whom" "$(said reclaim)" 'Memory reclaim holds threads up.*reclaim_storm\['
is "mmap_lock: the verdict" "$(first mmap)" mmap-lock-stall
like "mmap_lock: the queue and its holder" "$(said mmap)" 'threads waited for the mmap_lock of mmap_hold\[[0-9]+\].*held for writing by mmap_hold\['
is "mmap_lock: blame names the same" "$("$STALLBOX" blame --json mmap.stall.pb.zst | jq -r '.[0].chain[0].comm')" mmap_hold
is "softirqs: the verdict" "$(first softirq)" softirq-delay
like "softirqs: the call" "$(said softirq)" 'bh_stall\[[0-9]+\] tid [0-9]+ spends up to .* on the CPU in one bpf\(\)'
like "softirqs: order shows it before them" "$("$STALLBOX" order --before 'handle_softirqs|ksoftirqd' --window 200ms --cpu 1 --since -3s softirq.stall.pb.zst)" \
	'occurrences; what ran .* bh_stall [0-9]+ in bpf'
# What info tells: microseconds are no "0.000 s", a kind without stacks has none to show.
info=$("$STALLBOX" info softirq.stall.pb.zst)
us=$("$STALLBOX" fold --kind softirq --since -30s softirq.stall.pb.zst | awk '{ if ($NF > n) n = $NF } END { print n }')
like "info: the hottest softirqs as fold has them" "$(grep -A 1 '^hottest softirq' <<<"$info")" "$(awk -v n="$us" 'BEGIN { printf "\\b%d\\.%03d ms", n / 1000, n % 1000 }')"
like "info: a trigger without a name of its own is told once" "$info" '^trigger +manual, [0-9]'
is "info: block I/O is counted" "$([ "$("$STALLBOX" info --json reclaim.stall.pb.zst | jq '.events["block-io"]')" -gt 0 ] && echo yes)" yes
is "but has no stacks" "$("$STALLBOX" info reclaim.stall.pb.zst | grep -c '^hottest block-io')" 0
for b in reclaim mmap softirq; do
	"$STALLBOX" top --json $b.stall.pb.zst | head -n 1 >"$TEST_TMP/top"
	is "$b: off-CPU time is the same in fold, top and hist" \
		"$("$STALLBOX" fold --kind off-cpu --weight ns $b.stall.pb.zst | awk '{n += $NF} END {printf "%.0f\n", n}') $("$STALLBOX" hist offcpu --json $b.stall.pb.zst | jq .total_ns)" \
		"$(jq -r '[.before, .after | .d_ns, .s_ns, .runq_ns, .other_ns] | add | "\(.) \(.)"' "$TEST_TMP/top")"
	is "$b: so are samples" "$("$STALLBOX" fold $b.stall.pb.zst | awk '{n += $NF} END {print n}')" "$(jq '.before.samples + .after.samples' "$TEST_TMP/top")"
	ok "$b: a flame graph" bash -c "'$STALLBOX' flame --kind blocked $b.stall.pb.zst | xmllint --noout -"
done
finish
