"""HTTP for the stand-in: routes, answers, server-sent events, and the relay to another port of the sandbox."""

import json
import os
import re
import socket
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("EXECD_PORT", "44772"))
TOKEN = os.environ.get("EXECD_ACCESS_TOKEN", "")
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "host"}


class Problem(Exception):
    """An answer that is not a success."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def not_found(what):
    return Problem(404, "NOT_FOUND", f"no such {what}")


class Events:
    """A chunked answer of server-sent events."""

    def __init__(self, handler):
        self.out, self.lock = handler.wfile, threading.Lock()
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Cache-Control", "no-cache")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()

    def send(self, kind, **fields):
        data = json.dumps({"type": kind, **fields, "timestamp": int(time.time() * 1000)}).encode() + b"\n\n"
        with self.lock:
            self.out.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.out.flush()

    def close(self):
        self.out.write(b"0\r\n\r\n")
        self.out.flush()


ROUTES = []


def route(method, pattern):
    def register(function):
        ROUTES.append((method, re.compile(pattern + r"\Z"), function))
        return function

    return register


def dispatch(request, path):
    """Lets the first route that knows the path answer."""
    for method, pattern, function in ROUTES:
        match = pattern.match(path)
        if match and method == request.command:
            function(request, *match.groups())
            return
    raise not_found("route")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def any_method(self):
        if TOKEN and self.headers.get("X-EXECD-ACCESS-TOKEN") != TOKEN:
            self.problem(Problem(401, "UNAUTHORIZED", "wrong or missing access token"))
            return
        split = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(split.query, keep_blank_values=True)
        proxied = re.match(r"/proxy/(\d+)(/[^?]*)?", self.path)
        path = urllib.parse.unquote(split.path)
        if proxied and int(proxied[1]) != PORT:
            self.relay(int(proxied[1]), (proxied[2] or "/") + ("?" + split.query if split.query else ""))
            return
        if proxied:
            path = proxied[2] or "/"
        try:
            dispatch(self, path)
        except ConnectionError:
            self.close_connection = True
        except Problem as problem:
            self.problem(problem)
        except FileNotFoundError as error:
            self.problem(Problem(404, "FILE_NOT_FOUND", str(error)))
        except PermissionError as error:
            self.problem(Problem(403, "PERMISSION_DENIED", str(error)))
        except (KeyError, TypeError, ValueError) as error:
            self.problem(Problem(400, "INVALID_REQUEST", repr(error)))
        except OSError as error:
            self.problem(Problem(500, "RUNTIME_ERROR", str(error)))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = any_method

    # --- reading and answering

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            parts.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(parts)

    def json(self):
        return json.loads(self.body() or b"{}")

    def one(self, name, default=None):
        return self.query.get(name, [default])[0]

    def answer(self, value=None, status=200, kind="application/json", headers=()):
        data = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers:
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def problem(self, problem):
        self.answer({"code": problem.code, "message": problem.message}, problem.status)

    # --- relay to another port of the sandbox

    def relay(self, port, target):
        self.close_connection = True
        try:
            upstream = socket.create_connection(("127.0.0.1", port), timeout=10)
        except OSError:
            self.answer(b"Bad Gateway\n", 502, "text/plain")
            return
        upstream.settimeout(None)
        upgrade = "upgrade" in self.headers.get("Connection", "").lower()
        head = [f"{self.command} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Connection: {'Upgrade' if upgrade else 'close'}"]
        head += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP]
        upstream.sendall("\r\n".join(head).encode("latin-1") + b"\r\n\r\n")
        sender = threading.Thread(target=self.send_up, args=(upstream,), daemon=True)
        sender.start()
        first = [self.answer_head(upstream)]
        self.pump(lambda size: first.pop() if first else upstream.recv(size), self.connection.sendall)
        for end in (self.connection, upstream):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        sender.join()
        upstream.close()

    @staticmethod
    def answer_head(upstream):
        """The head of the answer and what came with it; it says that this connection ends behind it, as it does."""
        head = b""
        while b"\r\n\r\n" not in head:
            try:
                data = upstream.recv(65536)
            except OSError:
                data = b""
            if not data:
                return head
            head += data
        if head.startswith(b"HTTP/1.1 1"):
            return head
        lines, end, body = head.partition(b"\r\n\r\n")
        kept = [line for line in lines.split(b"\r\n") if not line.lower().startswith((b"connection:", b"keep-alive:"))]
        return b"\r\n".join([*kept, b"Connection: close"]) + end + body

    def send_up(self, upstream):
        """Body and everything after it, as bytes; `Connection: close` upstream makes the framing theirs."""
        self.pump(self.rfile.read1, upstream.sendall)
        try:
            upstream.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    @staticmethod
    def pump(read, write):
        try:
            while data := read(65536):
                write(data)
        except (OSError, ValueError):
            pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """A client that went away is no news."""
