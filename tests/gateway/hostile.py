#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Requests that no client of good will sends: hostile.py HOST PORT BUNDLE.

Prints "ok NAME" or "bad NAME: got ..., expected ..." for each. A request is right when the answer's status is one of
those expected and there is one answer: what a body could smuggle in gets none.
"""
import socket
import sys

host, port, bundle = sys.argv[1], int(sys.argv[2]), sys.argv[3]
H = b"Host: 127.0.0.1\r\n"
CLOSE = b"Connection: close\r\n\r\n"
FILE = b"/api/v1/captures/" + bundle.encode()


def get(path, headers=b"", version=b"HTTP/1.1"):
    return b"GET " + path + b" " + version + b"\r\n" + H + headers + CLOSE


def post(headers, body=b"", path=b"/api/v1/freeze"):
    return b"POST " + path + b" HTTP/1.1\r\n" + H + headers + CLOSE + body


SMUGGLED = b"GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1\r\nX: smuggled\r\n\r\n"
CASES = [
    # name, request, statuses; 0: closed without an answer
    ("a plain request is answered", get(b"/-/healthy"), [200]),
    ("%00 ends no name", get(FILE + b"%00.txt"), [404]),
    ("a NUL byte ends no name", get(FILE + b"\x00.txt"), [400]),
    ("%00 in the middle of a name", get(FILE.replace(b".stall", b"%00.stall")), [404]),
    ("no escape is taken for what it stands for", get(FILE.replace(b".stall", b"%2estall")), [404]),
    ("a name with ..", get(b"/api/v1/captures/../captures/" + bundle.encode()), [404]),
    ("..%2f", get(b"/api/v1/captures/..%2f..%2fetc%2fpasswd"), [404]),
    ("..\\", get(b"/api/v1/captures/..\\..\\etc\\passwd"), [404]),
    ("/etc/passwd by two slashes", get(b"/api/v1/captures//etc/passwd"), [404]),
    ("../../etc/passwd", get(b"/../../../../etc/passwd"), [404]),
    ("..;/", get(b"/api/v1/captures/..;/..;/etc/passwd"), [404]),
    ("%c0%ae%c0%ae/", get(b"/api/v1/captures/%c0%ae%c0%ae/etc/passwd"), [404]),
    ("an absolute path in the name", get(b"/api/v1/captures/%2fetc%2fpasswd"), [404]),
    ("a hidden name", get(b"/api/v1/captures/.tmp-1-" + bundle.encode()), [404]),
    ("another file of the directory", get(b"/api/v1/captures/secret.txt"), [404]),
    ("a symbolic link", get(b"/api/v1/captures/link.stall.pb.zst"), [404]),
    ("a symbolic link as a page", get(b"/api/v1/captures/link.stall.pb.zst/html"), [404]),
    ("a FIFO", get(b"/api/v1/captures/fifo.stall.pb.zst"), [404]),
    ("a directory", get(b"/api/v1/captures/dir.stall.pb.zst"), [404]),
    ("the directory itself", get(b"/api/v1/captures/"), [404]),
    ("a page of a page", get(FILE + b"/html/html"), [404]),
    ("another host's URL", get(b"http://evil.example/-/healthy"), [404, 400]),
    ("a URL of 100 kB", get(b"/" + b"a" * 100000), [414, 431, 400, 0]),
    ("headers of 100 kB", get(b"/-/healthy", b"X: " + b"a" * 100000 + b"\r\n"), [431, 413, 400, 0]),
    ("10,000 headers", get(b"/-/healthy", b"X: a\r\n" * 10000), [431, 413, 400, 0]),
    ("HTTP/9.9", get(b"/-/healthy", version=b"HTTP/9.9"), [505, 400]),
    ("no version", b"GET /-/healthy\r\n" + H + b"\r\n", [400, 505, 0]),
    ("no Host", b"GET /-/healthy HTTP/1.1\r\n" + CLOSE, [400]),
    ("no Host in HTTP/1.0", b"GET /-/healthy HTTP/1.0\r\n\r\n", [400]),
    ("an empty Host", b"GET /-/healthy HTTP/1.1\r\nHost:\r\n" + CLOSE, [400]),
    ("two Hosts", get(b"/-/healthy", b"Host: localhost\r\n"), [400]),
    ("a Host that is folded", b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n evil.example\r\n" + CLOSE, [400]),
    ("another's Host", b"GET /-/healthy HTTP/1.1\r\nHost: evil.example\r\n" + CLOSE, [421]),
    ("another's Host with our port", b"GET /-/healthy HTTP/1.1\r\nHost: evil.example:%d\r\n" % port + CLOSE, [421]),
    ("a Host with a user", b"GET /-/healthy HTTP/1.1\r\nHost: localhost@evil.example\r\n" + CLOSE, [400]),
    ("a blank before the colon", b"GET /-/healthy HTTP/1.1\r\nHost : localhost\r\n" + CLOSE, [400]),
    ("a body of a GET", get(b"/-/healthy", b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, [400]),
    ("chunks of a GET", get(b"/-/healthy", b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n" + SMUGGLED, [400, 411]),
    ("two lengths", post(b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED), [400]),
    ("two equal lengths", post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}"), [400]),
    ("a length and chunks", post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), [400]),
    ("chunks alone", post(b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), [411]),
    ("an unknown transfer coding", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + SMUGGLED), [400, 411, 501]),
    ("a negative length", post(b"Content-Length: -1\r\n"), [400]),
    ("a length with a sign", post(b"Content-Length: +2\r\n", b"{}"), [400]),
    ("a length that overflows", post(b"Content-Length: 99999999999999999999999\r\n"), [400, 413]),
    ("a length of 64 KiB and one", post(b"Content-Length: 65537\r\n"), [413, 403]),
    ("no length", post(b""), [411]),
    ("a length in hexadecimal", post(b"Content-Length: 0x2\r\n", b"{}"), [400]),
    ("a header's end by LF alone", b"GET /-/healthy HTTP/1.1\r\n" + H + b"X: a\n\n" + SMUGGLED, [200]),
    ("lines that end with LF alone", b"GET /-/healthy HTTP/1.1\nHost: 127.0.0.1\n\n" + SMUGGLED, [200, 400]),
    ("DELETE", b"DELETE " + FILE + b" HTTP/1.1\r\n" + H + CLOSE, [405]),
    ("PUT", b"PUT " + FILE + b" HTTP/1.1\r\nContent-Length: 0\r\n" + H + CLOSE, [405]),
    ("TRACE", b"TRACE / HTTP/1.1\r\n" + H + CLOSE, [405]),
    ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + H + CLOSE, [404, 405]),
    ("CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\n" + H + CLOSE, [404, 405, 400]),
    ("a method in lower case", b"get /-/healthy HTTP/1.1\r\n" + H + CLOSE, [405, 400, 501]),
    ("GET of what is asked for by POST", get(b"/api/v1/freeze"), [405]),
    ("POST of what is read", post(b"Content-Length: 0\r\n", path=b"/metrics"), [405]),
    ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", [400, 0]),
    ("nothing but line ends", b"\r\n" * 5000 + get(b"/-/healthy"), [200, 400, 0]),
]


def answers(request):
    """The statuses of all answers until the connection ends."""
    s = socket.create_connection((host, port), timeout=20)
    try:
        s.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        pass
    data = b""
    try:
        while True:
            more = s.recv(65536)
            if not more:
                break
            data += more
    except ConnectionResetError:
        pass
    except TimeoutError:
        return ["no end"]
    finally:
        s.close()
    found, at = [], 0
    while data.startswith(b"HTTP/1.", at):
        found.append(int(data[at + 9:at + 12]))
        end = data.find(b"\r\n\r\n", at)
        head = data[at:end].lower()
        length = 0
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        at = end + 4 + length
    return found or [0]


for name, request, expected in CASES:
    got = answers(request)
    if len(got) == 1 and got[0] in expected:
        print("ok", name)
    else:
        print("bad", name + ": got", got, "expected", expected)
