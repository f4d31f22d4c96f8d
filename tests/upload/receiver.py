# SPDX-License-Identifier: BSD-2-Clause
"""Keeps what is posted: receiver.py PORT DIRECTORY. The N-th request leaves N.path and N.body; it is answered with the
status in the file "status" of the directory, 200 if there is none."""
import http.server
import os
import sys

port, directory = int(sys.argv[1]), sys.argv[2]
requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        global requests
        requests += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status = int(open(os.path.join(directory, "status")).read())
        except FileNotFoundError:
            status = 200
        for name, data in (("path", f"{self.path}\n".encode()), ("body", body)):
            with open(os.path.join(directory, f"{requests}.{name}"), "wb") as f:
                f.write(data)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
