#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Answers on a control socket as stallboxd does (recorder/control.h): stub_agent.py SOCKET DIRECTORY.

DIRECTORY/mode says what it is like: recording, still (no record is added), cooldown, refuses, silent (no answer),
dry-run (each trigger is one), full (no directory takes bundles), half-full (one does), was-full (none did, long ago).
DIRECTORY/freezes gets the reason of each freeze, a line each.
"""
import json
import os
import socket
import sys
import time

path, directory = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "status.json"), encoding="ascii") as f:
    status = json.load(f)
with open(os.path.join(here, "counters.json"), encoding="ascii") as f:
    counters = f.read()
NAME = "stub-20261120T233350Z-manual.stall.pb.zst"


def mode():
    try:
        with open(os.path.join(directory, "mode"), encoding="ascii") as m:
            return m.read().strip()
    except FileNotFoundError:
        return "recording"


def answer(line):
    if line == "status-json":
        if mode() != "still":
            status["recorded"]["on-cpu"] += 101
        for i, d in enumerate(status["storage"]["directories"]):
            d["error"] = 28 if mode() in ("full", "was-full") or (mode() == "half-full" and i == 0) else 0
            d["tried_ns"] = time.monotonic_ns() - (121 if mode() == "was-full" else 90) * 10**9
        status["state"] = "cooldown" if mode() == "cooldown" else "recording"
        return "ok\n" + json.dumps(status) + "\n"
    if line == "directories":
        return "ok\ndirectory=%s/first\nfallback=%s/second\n" % (directory, directory)
    if line.startswith("delete "):
        return "ok\n"
    if line == "counters-json":
        return "ok\n" + counters
    if line == "triggers-json":
        dry = "true" if mode() == "dry-run" else "false"
        return (
            'ok\n{"triggers":[{"name":"system","armed":true,"settings":{"dry_run":%s},'
            '"outcomes":{"fired":2,"cooldown":5}}]}\n' % dry
        )
    if line.startswith("freeze"):
        if mode() == "refuses":
            return "error 1 the stub refuses\n"
        with open(os.path.join(directory, "freezes"), "a", encoding="utf-8") as f:
            f.write(line[len("freeze "):] + "\n")
        return "ok\ncapture=%s\npath=%s/%s\nstate=frozen\n" % (NAME, directory, NAME)
    return "error 2 unknown request\n"


server = socket.socket(socket.AF_UNIX)
server.bind(path + ".new")
server.listen(8)
os.rename(path + ".new", path)  # once it is there it answers
while True:
    client, _ = server.accept()
    line = b""
    while not line.endswith(b"\n"):
        more = client.recv(4096)
        if not more:
            break
        line += more
    if mode() == "silent":
        time.sleep(3)
    try:
        client.sendall(answer(line.decode("utf-8", "replace").rstrip("\n")).encode())
    except BrokenPipeError:
        pass
    client.close()
