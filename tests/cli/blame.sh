#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Locks, their holders and the chain behind them, on a bundle with known contents; every kind of event.
. "$(dirname "$0")/../lib.sh"
B=$TEST_TMP/locks.stall.pb.zst
"$BUILD/tests/helpers/make_bundle" "$B" events=100 locks=1 || { fail "make_bundle"; finish; }

"$STALLBOX" blame --json "$B" >"$TEST_TMP/blame"
is "six locks have waiters, the longest queue first" "$(jq -c 'map([.lock, (.waiters | length)])' "$TEST_TMP/blame")" \
	'[["mmap_lock",5],["mmap_lock",2],["mmap_lock",1],["mutex",1],["mmap_lock",1],["mmap_lock",1]]'
of() { jq -c ".[] | select(.addr == $1) | .chain[0] | $2" "$TEST_TMP/blame"; }
is "the writer that owns mmap_lock is named" "$(jq -c '.[0].chain[0] | [.found, .tid]' "$TEST_TMP/blame")" '["owner",1000]'
is "and whom it waits for: the page fault that reclaims and gets no CPU" \
	"$(jq -c '.[0].chain[1] | [.found, .tid, .runnable, .nr_scanned, .nr_reclaimed]' "$TEST_TMP/blame")" '["stack",1001,true,100000,3]'
is "the chain ends there" "$(jq '.[0].chain | length' "$TEST_TMP/blame")" 2
is "the one who has waited longest comes first" "$(jq -c '.[0].waiters[0] | [.tid, .mode, .waited_ns]' "$TEST_TMP/blame")" '[1006,"read",6000000000]'
is "a reader that waits itself is not the holder: the one in a page fault is" \
	"$(of 8192 '[.found, .tid]')" '["stack",1007]'
is "a mutex names its owner" "$(of 12288 '[.found, .proven, .tid, .running]')" '["owner",true,1010,true]'
is "of two in page faults the one that cannot have let go of the lock is named, and that it is a guess" \
	"$(of 16384 '[.found, .proven, .tid, .candidates, .readers, .last_reader]')" '["stack",false,1012,2,1,false]'
is "of two that may have, the last reader" \
	"$(of 20480 '[.found, .proven, .tid, .candidates, .readers, .last_reader]')" '["stack",false,1015,2,1,true]'
is "of a lock that was let go the one woken to take it, not the last reader" "$(of 24576 '[.found, .proven, .tid]')" '["woken",false,1018]'

is "who runs and who waits for that CPU" "$("$STALLBOX" info --json "$B" | jq -c .run_queues)" '[{"cpu":0,"waiting":3},{"cpu":2,"waiting":1,"tid":1010,"comm":"worker0"}]'
like "in words" "$("$STALLBOX" info "$B")" 'CPU 2: 1 waiting behind worker0 1010'
text=$("$STALLBOX" blame --stacks "$B")
like "in words" "$text" 'mmap_lock 0x1000 of worker0 1000/1000: 5 waiting, the first for 6.000 s'
like "with the chain" "$text" 'held by worker0 1000/1000 \(owner\), blocked for 5.000 s, in mmap .*which waits for: worker1 1000/1001 \(holds the VMA that it waits for, in a page fault; by its stack, not proven: the only one of its process that it could be\), runnable but not running for 1.000 s, reclaiming for 6.000 s \(scanned 100000, reclaimed 3 pages\)'
like "a guess is called one" "$text" 'held by worker0 1000/1015 \(holder by its stack, not proven: one of 2 that it could be; the lock has 1 reader; it was the last reader to come\), blocked for 5.000 s'
like "and a free lock free" "$text" 'next is worker3 1000/1018 \(let go: woken to take it, has not run yet\), runnable but not running for 1.000 s'
like "and the stacks" "$text" '__vma_start_write_\[k\].*vm_mmap_pgoff_\[k\]'

"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/inlined" events=10 locks=2 || { fail "make_bundle"; finish; }
is "the lock of a VMA that shows as an rwsem leads to the page fault that holds it" \
	"$("$STALLBOX" blame --json "$TEST_TMP/inlined" | jq -c '.[0].chain | map([.tid, .found, .last_reader])')" \
	'[[1000,"owner",null],[1001,"stack",true]]'
is "a writer that goes on as a reader while it unmaps holds it, whoever was the last reader" \
	"$("$STALLBOX" blame --json "$TEST_TMP/inlined" | jq -c '.[] | select(.addr == 20480) | .chain[0] | [.tid, .found, .candidates]')" '[1014,"stack",2]'
is "one that took it and lost the CPU before its fault began holds it" \
	"$("$STALLBOX" blame --json "$TEST_TMP/inlined" | jq -c '.[] | select(.addr == 24576) | .chain[0] | [.tid, .found, .runnable]')" '[1019,"stack",true]'

# From 6.17 on a thread in madvise() may hold no more than the lock of its VMA, while pages are freed, too.
madvise() { "$BUILD/tests/helpers/make_bundle" "$TEST_TMP/madvise" events=10 locks="$1" && "$STALLBOX" blame --json "$TEST_TMP/madvise" | jq -c '.[] | select(.addr == 16384) | .chain[0] | [.tid, .found, .proven, .candidates]'; }
is "up to 6.16 a thread in madvise() holds it rather than one in a page fault, which may hold the lock of its VMA" "$(madvise 3)" '[1011,"stack",false,2]'
is "from 6.17 on rather the page fault that reclaims, and madvise() could" "$(madvise 4)" '[1012,"stack",false,2]'

text=$("$STALLBOX" events --no-stacks --kind lock-wait,wakeup,lock-hold,syscall,softirq,block-io,oom,slab,hardirq "$B" | sed 's/.*cpu 0 *//')
is "every kind is told in words" "$(wc -l <<<"$text")" 9
like "a wait with its owner" "$text" 'lock-wait worker0 1000/1000 5.000 ms for mutex 0x3000 owner worker1 1000/1001'
like "a wakeup" "$text" 'woke worker2 1000/1002 after 20.000 ms in D state'
like "a hold and what happened in it" "$text" '300.000 ms held mmap_lock write 0x1000, 1.000 ms on the CPU, 3\+4 switches, 5 reclaims \(scanned 100, reclaimed 6 pages\)'
like "a long call with its file" "$text" '400.000 ms read\(0x3, 0x1000\) file memory.stat so far, by samples of one call site'
like "a late softirq" "$text" 'NET_RX waited 90.000 ms, ran 0.100 ms'
like "a slow request" "$text" '30.000 ms write of 4096 bytes, device 254:0'
like "a slow shrinker" "$text" '7.000 ms in shrinker sb-ext4:vda1, freed 12 of 34 objects'
like "a long hardirq" "$text" '6.000 ms in the handler of 27 virtio0-input'
ok "and as JSON" bash -c "'$STALLBOX' events --json --kind lock-wait,wakeup,lock-hold,syscall,softirq,block-io,oom,slab,hardirq '$B' | jq -e -s 'length == 9 and .[8].irq == 27 and .[0].owner_tid == 1001 and .[4].vector == \"NET_RX\" and .[6].victim_tid == 1003'"
is "series are summed up" "$("$STALLBOX" series "$B")" 'psi.memory.full: grew by 10 us in 0 s, at most 15 in one step'
is "and listed" "$("$STALLBOX" series --values "$B" | wc -l)" 3
"$BUILD/tests/helpers/make_bundle" "$TEST_TMP/none" events=10
is "no lock, and that is said" "$("$STALLBOX" blame "$TEST_TMP/none")" 'no thread waited for a lock at the freeze'
finish
