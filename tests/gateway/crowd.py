#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""COUNT clients at a time, each from 127.0.0.x, each of its own part of one file: crowd.py PORT PATH FILE COUNT.

All are connected before the first one asks. Prints how many got their bytes, and no others.
"""
import socket
import sys
import threading

port, path, name, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
with open(name, "rb") as f:
    data = f.read()
step = len(data) // count
everybody = threading.Barrier(count, timeout=60)
good = []


def download(i):
    s = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=("127.0.0.%d" % (2 + i % 20), 0))
    everybody.wait()
    first, last = i * step, (i + 1) * step - 1
    s.sendall(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nRange: bytes=%d-%d\r\n\r\n" % (path.encode(), first, last))
    got = b""
    while True:
        more = s.recv(65536)
        if not more:
            break
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 206") and body == data[first:last + 1]:
        good.append(i)


threads = [threading.Thread(target=download, args=(i,)) for i in range(count)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(len(good))
