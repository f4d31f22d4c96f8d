#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The user stacks of a bundle beside those of tests/helpers/unwind_events, event by event.

    same_events.py STACKS NDJSON EVENTS    NDJSON: stallbox export --format ndjson, EVENTS: stallbox events --json

An event is the same when thread and kind are, and no more than 200 us lie between the two times: the recorder's block
begins when the thread leaves the CPU, its sample is taken in the interrupt. Prints one JSON object: how many such events
there are, of which kind, with how many frames of ours, how many stacks are identical, and the others by class. Of each
class the first one is printed on standard error.

    copy            theirs ends for want of a word that was not copied; up to there both are the same
    depth           ours is cut at the recorder's limit, and is the beginning of theirs
    ours longer     theirs is the beginning of ours, which reaches an outermost function: the end of another stack
                    on which both agree, or one by name
    no code         ours is the beginning of theirs, and says it knows no further; theirs goes on to an address in no code
    beyond          ours is the beginning of theirs and reaches an outermost function; theirs goes on behind it
    leaf's caller   ours is without the caller of the innermost function; but for that of one of the classes above
    leaf's caller in ours alone     the other way round
    astray          theirs leaves the code in the end; ours reaches an outermost function
    ours ends, WHY  ours is the beginning of theirs, which goes on to what is code
    unknown         the recorder did not know the process's mappings yet, and went by frame pointers
    other           anything else
"""
import json
import re
import sys

NEAR_NS = 200000
OUTERMOST = re.compile(r"^(_start|clone|__clone3?|clone3|start_thread|runtime\.(goexit|mcall|mstart|morestack)([.]abi0)?)$")


def read_theirs(path):
    theirs = {}
    for line in open(path):
        kind, tid, ts, end, *frames = line.split()
        pcs = [int(f.rstrip("!"), 16) for f in frames]
        theirs.setdefault((kind, int(tid)), []).append((int(ts), end, pcs, ["!" in f for f in frames]))
    for of_thread in theirs.values():
        of_thread.sort(key=lambda t: t[0])
    return theirs


def read_ours(ndjson, events):
    stacks, ends, ours = {}, {}, []
    for line in open(events):
        e = json.loads(line)
        if e.get("ustack_end"):
            ends[e["kind"], e["tid"], e["ts_ns"]] = e["ustack_end"], e["ustack"]
    for line in open(ndjson):
        r = json.loads(line)
        if r["type"] == "stack":
            stacks[r["id"]] = [int(f["addr"], 16) for f in r["frames"]]
        elif r["type"] == "event" and r["kind"] in ("on-cpu", "off-cpu") and r["ustack"]:
            began = r["ts_ns"] - (r["duration_ns"] if r["kind"] == "off-cpu" else 0)
            ours.append((r["kind"], r["tid"], began, r["ustack"], *ends[r["kind"], r["tid"], r["ts_ns"]]))
    return [(kind, tid, began, end, stacks[stack], names) for kind, tid, began, stack, end, names in ours]


def class_of(ours, end, rooted, theirs, their_end, no_code):
    n, m = len(ours), len(theirs)
    if ours == theirs:
        return "identical"
    if theirs == ours[:m]:
        return "copy" if their_end == "copy" else "ours longer" if rooted else "other"
    if ours == theirs[:n]:
        if end == "complete":
            return "beyond" if rooted else "other"
        if end == "depth":
            return "depth"
        return "no code" if no_code[n] or no_code[n - 1] else "ours ends, " + end
    if n > 1 and m > 2 and theirs[0] == ours[0] and theirs[2] == ours[1]:
        rest = class_of(ours, end, rooted, theirs[:1] + theirs[2:], their_end, no_code[:1] + no_code[2:])
        if rest != "other":
            return "leaf's caller"
    if n > 2 and m > 1 and theirs[0] == ours[0] and theirs[1] == ours[2]:
        rest = class_of(ours[:1] + ours[2:], end, rooted, theirs, their_end, no_code)
        return "other" if rest == "other" else "leaf's caller in ours alone"
    return "astray" if rooted and no_code[-1] else "other"


def pairs(theirs, ours):
    for kind, tid, began, end, stack, names in ours:
        near = [t for t in theirs.get((kind, tid), []) if abs(t[0] - began) <= NEAR_NS]
        if near:
            yield kind, tid, began, end, stack, names, *min(near, key=lambda t: abs(t[0] - began))


def main():
    same = list(pairs(read_theirs(sys.argv[1]), read_ours(*sys.argv[2:4])))
    counts, shown = {}, set()
    agreed = {stack[-1] for _, _, _, end, stack, _, _, _, pcs, _ in same if stack == pcs and end == "complete"}
    for kind, tid, began, end, stack, names, ts, their_end, pcs, no_code in same:
        rooted = end == "complete" and (stack[-1] in agreed or bool(OUTERMOST.match(names[-1])))
        c = class_of(stack, end, rooted, pcs, their_end, no_code)
        counts["events"] = counts.get("events", 0) + 1
        counts[kind] = counts.get(kind, 0) + 1
        counts["frames"] = counts.get("frames", 0) + len(stack)
        c = "unknown" if end == "unknown" else c
        counts[c] = counts.get(c, 0) + 1
        if c != "identical" and (kind, c) not in shown:
            shown.add((kind, c))
            print(f"{kind} of {tid} at {began}, {c}: ours ends with '{end}', theirs with '{their_end}', {ts - began} ns apart",
                  file=sys.stderr)
            for i in range(max(len(stack), len(pcs))):
                print(f"  {i:2} {stack[i] if i < len(stack) else 0:16x} {pcs[i] if i < len(pcs) else 0:16x}"
                      f"{'!' if i < len(pcs) and no_code[i] else ' '} {names[i] if i < len(names) else ''}", file=sys.stderr)
    print(json.dumps(counts))


main()
