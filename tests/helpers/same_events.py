#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The user stacks of a bundle beside those of tests/helpers/unwind_events, event by event.

    same_events.py STACKS NDJSON EVENTS [PROGRAM [TRACEBACK]]

NDJSON: stallbox export --format ndjson, EVENTS: stallbox events --json.

An event is the same when thread and kind are, and no more than 200 us lie between the two times: the recorder's block
begins when the thread leaves the CPU, its sample is taken in the interrupt. Prints one JSON object: how many such events
there are, of which kind, with how many frames of ours, how many stacks are identical, and the others by class; "open" are
of these the ones in which no witness says that ours is right, "open waits" how many of them were no samples. Of each
class the first one is printed on standard error.

    as far          theirs ends for want of a word: above what was copied of the stack ("copy"), or "below" the stack pointer. Up to
                    there both are the same: no less than the innermost function's caller, and ours goes on to an outermost
                    function; or ours ends there, too, without one. "frames as far": how many of these frames were compared
    copy, below     such a one, but ours goes on to anything else, or only the innermost address could be compared
    depth           ours is cut at the recorder's limit, and is the beginning of theirs
    ours longer     theirs is the beginning of ours, which reaches an outermost function: the end of another stack
                    on which both agree, or one by name
    no mapping      rows lead both to the same address in no executable mapping; ours has it, and says "no mapping"
    false frame     any other frame of ours is in no executable mapping, or one is in PROGRAM and no call of it returns there
    another stack   both are the same to systemstack() or asmcgocall() of Go, which went to another stack; ours follows to an
                    outermost function, theirs does not
    beyond          ours is the beginning of theirs and reaches an outermost function; theirs goes on behind it
    leaf's caller   ours is without the caller of the innermost function; but for that of one of the classes above
    leaf's caller in ours alone     the other way round
    ours ends, WHY  ours is the beginning of theirs, which goes on to what is code
    another event   the innermost address, which nobody unwinds, is another one
    unknown         the recorder did not know the process's mappings yet, and went by frame pointers
    other           anything else

An address in no executable mapping of /proc/PID/maps is no frame, and none is one in PROGRAM, not of Go, where objdump says that no
call is before it: theirs ends before the first such frame. And where ours is complete and the beginning of theirs, theirs ends with it if
its last function has no caller on that stack: one that Go's linker marks in .gopclntab as outermost (TOPFRAME: mstart, goexit), which
it says in .debug_frame, too, on every architecture but x86 (writeframes in cmd/link/internal/ld/dwarf.go); and mcall and morestack, to
which nobody returns and at which Go's own traceback ends. "cut" counts all these events, whatever their class.

Where they differ, somebody else is asked who is right; counted as "ours by witness" or "theirs by witness", where it can tell:

    PROGRAM, of Go, with symbols, at the addresses at which it runs; objdump says what each of its calls calls, and
    TRACEBACK what Go's runtime itself printed of the process's stacks (GOTRACEBACK=crash). A stack can be so if each return
    address stands behind a call of the function above it, or of one that jumps to it, or through a register if
    the program has the function's address, and the stack ends where one of the runtime's own does, or at such a function
    without a caller. "gap by witness":
    ours is so but for the function that called systemstack() or asmcgocall(); "neither": identical, and cannot be so. What
    lies in C above Go has no such witness: there ours has to be the same as theirs.
"""
import bisect
import functools
import json
import re
import struct
import subprocess
import sys

NEAR_NS = 200000
TOPFRAME = 1  # src/internal/abi/symtab.go
FLAG_AT = {0xFFFFFFF0: 37, 0xFFFFFFF1: 41}  # in a _func of src/runtime/runtime2.go: by the magic number of Go 1.18, 1.20
OUTERMOST = re.compile(r"^(_start|clone|__clone3?|clone3|start_thread|runtime\.(goexit|mcall|mstart|morestack)([.]abi0)?)$")

SWITCH = re.compile(r"^runtime[.](systemstack|asmcgocall)([.]abi0)?$")


def read_theirs(path):
    theirs, code = {}, []
    for line in open(path):
        kind, *words = line.split()
        if kind == "code":
            code.append(range(int(words[0], 16), int(words[1], 16)))
            continue
        tid, ts, end, *frames = words
        theirs.setdefault((kind, int(tid)), []).append((int(ts), end, [int(f, 16) for f in frames]))
    for of_thread in theirs.values():
        of_thread.sort(key=lambda t: t[0])
    return theirs, code


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


def class_of(ours, end, rooted, theirs, their_end):
    n, m = len(ours), len(theirs)
    if ours[0] != theirs[0]:
        return "another event"
    if ours == theirs and (end == "complete" or their_end not in ("copy", "below")):
        return "identical"
    if theirs == ours[:m] and their_end in ("copy", "below"):
        return "as far" if n == m or (m > 1 and rooted) else their_end
    if theirs == ours[:m]:
        return "ours longer" if rooted else "other"
    if ours == theirs[:n]:
        if end == "complete":
            return "beyond" if rooted else "other"
        return "depth" if end == "depth" else "ours ends, " + end
    if n > 1 and m > 1 and (m == 2 or theirs[2] == ours[1]):
        rest = class_of(ours, end, rooted, theirs[:1] + theirs[2:], their_end)
        if rest != "other":
            return "leaf's caller"
    if n > 2 and m > 1 and theirs[1] == ours[2]:
        rest = class_of(ours[:1] + ours[2:], end, rooted, theirs, their_end)
        return "other" if rest == "other" else "leaf's caller in ours alone"
    return "other"


def to_another_stack(names, rooted, theirs, ours):
    same = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return rooted and 0 < same < len(ours) and bool(SWITCH.match(names[same - 1]))


def pairs(theirs, ours):
    for kind, tid, began, end, stack, names in ours:
        near = [t for t in theirs.get((kind, tid), []) if abs(t[0] - began) <= NEAR_NS]
        if near:
            yield kind, tid, began, end, stack, names, *min(near, key=lambda t: abs(t[0] - began))


def alone(theirs, ours):
    """How many of ours nobody copied: of threads that are copied, while they are."""
    paired = sum(1 for _ in pairs(theirs, ours))
    return sum((kind, tid) in theirs and theirs[kind, tid][0][0] <= began <= theirs[kind, tid][-1][0]
               for kind, tid, began, *_ in ours) - paired


class Witness:
    """What a program says of itself; one of Go more than others."""

    SWITCHES = ("runtime.systemstack.abi0", "runtime.asmcgocall.abi0")
    NOBODY_RETURNS = ("runtime.mcall", "runtime.mcall.abi0", "runtime.morestack", "runtime.morestack.abi0")
    CALL = re.compile(r"^ *([0-9a-f]+):\s+(call|jmp)q? +(?:([0-9a-f]+) <|\*)")

    def __init__(self, program, traceback=None):
        text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program], check=True, capture_output=True, text=True).stdout
        self.starts, self.calls, self.jumps, self.called, self.switches, self.no_caller = [], {}, {}, {}, set(), set()
        behind = None
        for line in text.splitlines():
            if line.endswith(">:"):
                self.starts.append(int(line.split(" ", 1)[0], 16))
                if line.split(" ", 1)[1] in [f"<{name}>:" for name in self.SWITCHES]:
                    self.switches.add(self.starts[-1])
                if line.split(" ", 1)[1] in [f"<{name}>:" for name in self.NOBODY_RETURNS]:
                    self.no_caller.add(self.starts[-1])
                continue
            at = line.split(":", 1)[0].strip()
            if behind and at:
                self.calls[int(at, 16)] = behind[0]
            behind = None
            m = self.CALL.match(line)
            if not m:
                continue
            target = int(m[3], 16) if m[3] else None
            if m[2] == "call":
                behind = (target,)
                self.called.setdefault(self.starts[-1], set()).add(target)
            else:
                self.jumps.setdefault(self.starts[-1], set()).add(target)
        headers = subprocess.run(["objdump", "-h", program], check=True, capture_output=True, text=True).stdout
        data = open(program, "rb").read()
        words = set()
        for size, offset in re.findall(r"[.](?:noptr)?(?:ro)?data\S* +(\w+)  \w+  \w+  (\w+) ", headers):
            words.update(word for (word,) in struct.iter_unpack("<Q", data[int(offset, 16):][:int(size, 16) // 8 * 8]))
        words.update(int(target, 16) for target in re.findall(r"\tlea .* # (\w+) <", text))
        self.taken = {start for start in self.starts if start in words}
        self.outermost = set()
        self.go = traceback is not None
        if not self.go:
            return
        size, offset = re.search(r" [.]gopclntab +(\w+)  \w+  \w+  (\w+) ", headers).groups()
        self.no_caller |= self.marked(data[int(offset, 16):][:int(size, 16)])
        for stack in re.split(r"\n\n|\ncreated by|\n-----", open(traceback, errors="replace").read()):
            self.outermost.update(int(pc, 16) for pc in re.findall(r" fp=0x\w+ sp=0x\w+ pc=(0x\w+)$", stack, re.M)[-1:])

    @staticmethod
    def marked(table):
        """The functions that .gopclntab says to be outermost."""
        magic = struct.unpack_from("<I", table)[0]
        functions, _, text, *_, begin = struct.unpack_from("<8Q", table, 8)
        pairs = (struct.unpack_from("<II", table, begin + 8 * i) for i in range(functions))
        return {text + entry for entry, of in pairs if table[begin + of + FLAG_AT[magic]] & TOPFRAME}

    def ends(self, stack):
        """With a function that has no caller on that stack."""
        return self.start_of(stack[-1] - (len(stack) > 1)) in self.no_caller

    def start_of(self, pc):
        return self.starts[bisect.bisect_right(self.starts, pc) - 1]

    def has(self, pc):
        return self.starts[0] <= pc < self.starts[-1] + 4096

    def is_no_frame(self, pc):
        return not self.go and self.has(pc) and pc not in self.calls

    def called_by(self, by):
        """What may have been called where that address is returned to. goexit is called by nobody: its address stands where a
        goroutine's first function returns to."""
        target = self.calls.get(by)
        called = {target} | self.jumps.get(target, set())
        return called | self.taken if None in called else called  # through a register

    def can_be(self, pcs):
        """pcs: of the innermost function, and return addresses. "gap": but for the function that called a switch of stacks."""
        verdict = "whole"
        for i, pc in enumerate(pcs[1:], 1):
            if not self.has(pc):
                continue  # C
            if pc not in self.calls and pc not in self.outermost:
                return None
            if not self.has(pcs[i - 1]):
                continue
            callee = self.start_of(pcs[i - 1] - (i > 1))
            if callee in self.called_by(pc):
                continue
            if callee not in self.switches or not any(callee in self.called.get(f, ()) for f in self.called_by(pc)):
                return None
            verdict = "gap"
        return verdict if len(pcs) > 1 and (pcs[-1] in self.outermost or self.ends(pcs)) else None

    def same_in_c(self, ours, theirs):
        """The innermost functions, up to the first one of Go."""
        n = next((i for i, pc in enumerate(ours) if self.has(pc)), len(ours)) + 1
        return ours[:n] == theirs[:n]


def right(witness, stack, end, pcs):
    """Which of two stacks that differ."""
    if not witness or not witness.go:
        return None
    ours = end == "complete" and (witness.has(stack[0]) or witness.same_in_c(stack, pcs)) and witness.can_be(stack)
    theirs = witness.can_be(pcs)
    if bool(ours) == bool(theirs):
        return None
    return "theirs by witness" if theirs else "gap by witness" if ours == "gap" else "ours by witness"


def without_others(is_frame, witness, same):
    """Theirs up to the first address that is no frame, or to Go's end; what comes then; and the class of ours if it has a false one."""
    for *event, pcs in same:
        end, stack = event[3:5]
        n = next((i for i in range(1, len(pcs)) if not is_frame(pcs[i])), len(pcs))
        false = None if all(map(is_frame, stack[1:])) else "false frame"
        if false and end == "no mapping" and stack == pcs[:n + 1]:
            false = end
        if witness and witness.go and end == "complete" and stack == pcs[:len(stack)] and witness.ends(stack):
            n = min(n, len(stack))
        yield *event, pcs[:n], pcs[n:], false


def main():
    witness = Witness(*sys.argv[4:6]) if len(sys.argv) > 4 else None
    theirs, code = read_theirs(sys.argv[1])

    @functools.cache
    def is_frame(pc):
        return any(pc in r for r in code) and not (witness and witness.is_no_frame(pc))

    ours = read_ours(*sys.argv[2:4])
    same = list(without_others(is_frame, witness, pairs(theirs, ours)))
    counts, open_ones, open_waits, shown = {}, {}, 0, set()
    agreed = {stack[-1] for _, _, _, end, stack, _, _, _, pcs, _, _ in same if stack == pcs and end == "complete"}

    def count(what, n=1):
        counts[what] = counts.get(what, 0) + n

    for kind, tid, began, end, stack, names, ts, their_end, pcs, cut, false in same:
        rooted = end == "complete" and (stack[-1] in agreed or bool(OUTERMOST.match(names[-1])))
        c = false or ("unknown" if end == "unknown" else class_of(stack, end, rooted, pcs, "cut" if cut else their_end))
        if c in ("ours longer", "other") and to_another_stack(names, rooted, pcs, stack):
            c = "another stack"
        count("events")
        count(kind)
        count("frames", len(stack))
        if end == "complete":
            count("complete")
        count(c)
        if cut:
            count("cut")
        if c == "as far":
            count("frames as far", len(pcs))
        alike = c in ("identical", "as far")
        by = None if alike or c == "unknown" or false else right(witness, stack, end, pcs)
        if alike and witness and witness.go and not witness.can_be(stack):
            by = "neither by witness"
        if by:
            count(by)
        if (not alike or by) and by not in ("ours by witness", "gap by witness"):
            which = "neither" if alike else c
            open_ones[which] = open_ones.get(which, 0) + 1
            open_waits += kind == "off-cpu"
        if (c != "identical" or by or cut) and (kind, c, by, bool(cut)) not in shown:
            shown.add((kind, c, by, bool(cut)))
            print(f"{kind} of {tid} at {began}, {c}, {by or 'no witness'}: ours ends with '{end}', theirs with '{their_end}'"
                  f"{' and is cut' if cut else ''}, {ts - began} ns apart", file=sys.stderr)
            whole = pcs + cut
            for i in range(max(len(stack), len(whole))):
                print(f"  {i:2} {stack[i] if i < len(stack) else 0:16x} {whole[i] if i < len(whole) else 0:16x}"
                      f"{'!' if len(pcs) <= i < len(whole) else ' '} {names[i] if i < len(names) else ''}", file=sys.stderr)
    print(json.dumps(counts | {"open": open_ones, "open waits": open_waits, "alone": alone(theirs, ours)}))


main()
