# SPDX-License-Identifier: BSD-2-Clause
"""A proxy that breaks requests: proxy.py PORT UPSTREAM_PORT MODE_FILE LOG [CERTIFICATE KEY]

The mode file is read for each request; MODE:N is MODE for the next N requests, then pass.
  pass     hands it on
  busy     503 with Retry-After: 1, as S3 says SlowDown; nothing is handed on
  flip     one bit of the body is another one
  cut      the connection ends in the middle of the body
  deaf     handed on and carried out, but no answer comes back
  stall    reads the request and never answers
"""
import http.client
import http.server
import ssl
import sys
import threading
import time

port, upstream, mode_file, log_file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
lock = threading.Lock()


def take_mode():
    with lock:
        mode, _, left = open(mode_file).read().strip().partition(":")
        if left:
            with open(mode_file, "w") as f:
                f.write(f"{mode}:{int(left) - 1}" if int(left) > 1 else "pass")
        return mode


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self, mode, status):
        with lock, open(log_file, "a") as f:
            f.write(f"{self.command} {self.path} {mode} {status}\n")

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for k, v in headers:
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(body)

    def hand_on(self, body):
        c = http.client.HTTPConnection("127.0.0.1", upstream, timeout=60)
        c.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for k, v in self.headers.items():
            if k.lower() not in ("expect", "connection"):
                c.putheader(k, v)
        c.endheaders(body)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, r.getheaders(), data

    def handle_request(self):
        self.close_connection = True
        mode = take_mode()
        length = int(self.headers.get("Content-Length", 0))
        if mode == "cut":
            self.rfile.read(length // 2)
            return self.note(mode, 0)
        body = self.rfile.read(length)
        if mode == "stall":
            self.note(mode, 0)
            time.sleep(3600)
        if mode == "busy":
            self.note(mode, 503)
            return self.answer(503, [("Retry-After", "1"), ("Content-Length", "40")], b"<Error><Code>SlowDown</Code></Error>    ")
        if mode == "flip" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        try:
            status, headers, data = self.hand_on(body)
        except OSError:
            self.note(mode, 0)
            raise
        self.note(mode, status)
        if mode != "deaf":
            self.answer(status, [h for h in headers if h[0].lower() not in ("connection", "transfer-encoding")], data)

    do_GET = do_PUT = do_HEAD = do_POST = handle_request


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # of the upstream, or of a client that went away: what is tested


server = Server(("127.0.0.1", port), Handler)
if len(sys.argv) > 5:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[5], sys.argv[6])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
