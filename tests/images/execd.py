#!/usr/bin/python3
"""Stand-in for execd in tests and the demo: the part of its HTTP API that the official SDK uses, on port 44772.

Not hardened and not meant to be: it runs inside throw-away test sandboxes. Output goes out as server-sent events, one
JSON object per event; `/proxy/{port}/…` is a byte relay, so streams and WebSockets pass through it.
"""

import datetime
import fnmatch
import grp
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("EXECD_PORT", "44772"))
TOKEN = os.environ.get("EXECD_ACCESS_TOKEN", "")
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "host"}
STATE_FOLDER = "/tmp"


class Problem(Exception):
    """An answer that is not a success."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def not_found(what):
    return Problem(404, "NOT_FOUND", f"no such {what}")


def utc(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat().replace("+00:00", "Z")


def environment(extra):
    """Own environment, then what EXECD_ENVS adds, then what the request adds."""
    merged = dict(os.environ)
    try:
        with open(merged.get("EXECD_ENVS", ""), encoding="utf-8") as lines:
            for line in lines:
                key, equals, value = line.rstrip("\n").partition("=")
                if equals:
                    merged[key] = value
    except OSError:
        pass
    merged.update(extra or {})
    return merged


class Command:
    """A process with its output, kept after its end so that status and logs can be asked for."""

    known = {}

    def __init__(self, argv, cwd=None, env=None, uid=None, gid=None, timeout_ms=None):
        self.id = uuid.uuid4().hex
        self.argv = argv
        self.started, self.finished, self.code = time.time(), None, None
        self.lines = []
        self.process = subprocess.Popen(
            argv, cwd=cwd or None, env=env, user=uid, group=gid, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )
        if timeout_ms:
            timer = threading.Timer(timeout_ms / 1000, self.kill)
            timer.daemon = True
            timer.start()
        Command.known[self.id] = self

    @classmethod
    def get(cls, command_id):
        if command_id not in cls.known:
            raise not_found("command")
        return cls.known[command_id]

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass

    def follow(self, emit):
        """Reads both streams to their ends; `emit(kind, line)` may be called from two threads."""
        readers = [
            threading.Thread(target=self._read, args=(kind, stream, emit), daemon=True)
            for kind, stream in (("stdout", self.process.stdout), ("stderr", self.process.stderr))
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        self.code, self.finished = self.process.wait(), time.time()

    def _read(self, kind, stream, emit):
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.lines.append(line)
            emit(kind, line)
        stream.close()


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
            self.dispatch(path)
        except ConnectionError:
            self.close_connection = True
        except Problem as problem:
            self.problem(problem)
        except FileNotFoundError as error:
            self.problem(Problem(404, "FILE_NOT_FOUND", str(error)))
        except (KeyError, TypeError, ValueError) as error:
            self.problem(Problem(400, "INVALID_REQUEST", repr(error)))
        except OSError as error:
            self.problem(Problem(500, "RUNTIME_ERROR", str(error)))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = any_method

    def dispatch(self, path):
        for method, pattern, function in ROUTES:
            match = pattern.match(path)
            if match and method == self.command:
                function(self, *match.groups())
                return
        raise not_found("route")

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
        self.pump(upstream.recv, self.connection.sendall)
        for end in (self.connection, upstream):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        sender.join()
        upstream.close()

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


# --- health and metrics


@route("GET", "/ping")
def ping(request):
    request.answer()


def metrics():
    with open("/proc/meminfo", encoding="ascii") as lines:
        memory = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {
        "cpu_count": os.cpu_count(), "cpu_used_pct": min(100.0, 100 * os.getloadavg()[0] / os.cpu_count()),
        "mem_total_mib": memory["MemTotal"], "mem_used_mib": memory["MemTotal"] - memory["MemAvailable"],
        "timestamp": int(time.time() * 1000),
    }


@route("GET", "/metrics")
def metrics_once(request):
    request.answer(metrics())


@route("GET", "/metrics/watch")
def metrics_watch(request):
    events = Events(request)
    while True:
        events.send("metrics", **{k: v for k, v in metrics().items() if k != "timestamp"})
        time.sleep(1)


# --- commands and sessions


def run(request, argv, background=False, **options):
    try:
        command = Command(argv, **options)
    except OSError as error:
        raise Problem(400, "INVALID_REQUEST", str(error)) from error
    events = Events(request)
    events.send("init", text=command.id)
    if background:
        threading.Thread(target=command.follow, args=(lambda kind, line: None,), daemon=True).start()
        events.send("execution_complete", execution_time=0)
        events.close()
        return
    try:
        command.follow(lambda kind, line: events.send(kind, text=line))
    except ConnectionError:
        command.kill()
        raise
    if command.code == 0:
        events.send("execution_complete", execution_time=int((command.finished - command.started) * 1000))
    else:
        events.send("error", error={"ename": "CommandExecError", "evalue": str(command.code), "traceback": [f"exit status {command.code}"]})
    events.close()


def shell():
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


@route("POST", "/command")
def command_run(request):
    asked = request.json()
    argv = asked.get("argv") or [shell(), "-c", asked["command"]]
    run(
        request, argv, background=bool(asked.get("background")), cwd=asked.get("cwd"), env=environment(asked.get("envs")),
        uid=asked.get("uid"), gid=asked.get("gid"), timeout_ms=asked.get("timeout"),
    )


@route("DELETE", "/command")
def command_interrupt(request):
    Command.get(request.one("id")).kill()
    request.answer()


@route("GET", "/command/status/([^/]+)")
def command_status(request, command_id):
    command = Command.get(command_id)
    shown = {"id": command.id, "running": command.finished is None, "started_at": utc(command.started), "content": " ".join(command.argv)}
    if command.finished is not None:
        shown.update(exit_code=command.code, finished_at=utc(command.finished))
    request.answer(shown)


@route("GET", "/command/([^/]+)/logs")
def command_logs(request, command_id):
    lines = Command.get(command_id).lines
    start, end = int(request.one("cursor") or 0), len(lines)
    text = "".join(line + "\n" for line in lines[start:end])
    request.answer(text.encode(), kind="text/plain", headers=[("EXECD-COMMANDS-TAIL-CURSOR", str(end))])


SESSIONS = {}


@route("POST", "/session")
def session_create(request):
    session_id = uuid.uuid4().hex
    SESSIONS[session_id] = request.json().get("cwd") or "/"
    request.answer({"session_id": session_id})


def session(session_id):
    if session_id not in SESSIONS:
        raise not_found("session")
    return f"{STATE_FOLDER}/.execd-session-{session_id}"


@route("POST", "/session/([^/]+)/run")
def session_run(request, session_id):
    """Each run is a shell of its own that takes up variables and directory where the last one left them."""
    state = session(session_id)
    asked = request.json()
    start = SESSIONS[session_id]
    explicit = f"cd -- {json.dumps(asked['cwd'])}\n" if asked.get("cwd") else ""
    script = (
        f"cd -- {json.dumps(start)}; [ -f {state} ] && . {state}\n"
        f"trap '__code=$?; {{ export -p; printf \"cd -- %q\\n\" \"$PWD\"; }} >{state}; exit $__code' EXIT\n{explicit}{asked['command']}\n"
    )
    run(request, ["/bin/bash", "-c", script], env=environment(None), timeout_ms=asked.get("timeout"))


@route("DELETE", "/session/([^/]+)")
def session_delete(request, session_id):
    state = session(session_id)
    del SESSIONS[session_id]
    if os.path.exists(state):
        os.remove(state)
    request.answer()


# --- files


def name_of(lookup, number):
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def describe(path):
    status = os.lstat(path)
    kind = "symlink" if os.path.islink(path) else "directory" if os.path.isdir(path) else "file"
    return {
        "path": path, "type": kind, "size": status.st_size, "mode": int(f"{status.st_mode & 0o777:o}"),
        "modified_at": utc(status.st_mtime), "created_at": utc(status.st_ctime),
        "owner": name_of(pwd.getpwuid, status.st_uid), "group": name_of(grp.getgrgid, status.st_gid),
    }


def permit(path, wanted):
    if wanted.get("owner") or wanted.get("group"):
        shutil.chown(path, wanted.get("owner") or None, wanted.get("group") or None)
    if wanted.get("mode"):
        os.chmod(path, int(str(wanted["mode"]), 8))


@route("POST", "/directories")
def directories_create(request):
    for path, wanted in request.json().items():
        os.makedirs(path, exist_ok=True)
        permit(path, wanted or {})
    request.answer()


@route("DELETE", "/directories")
def directories_delete(request):
    for path in request.query.get("path", []):
        shutil.rmtree(path, ignore_errors=True)
    request.answer()


@route("GET", "/directories/list")
def directories_list(request):
    folder = request.one("path")
    request.answer([describe(os.path.join(folder, name)) for name in sorted(os.listdir(folder))])


@route("DELETE", "/files")
def files_delete(request):
    for path in request.query.get("path", []):
        os.remove(path)
    request.answer()


@route("GET", "/files/info")
def files_info(request):
    request.answer({path: describe(path) for path in request.query.get("path", [])})


@route("POST", "/files/mv")
def files_move(request):
    for move in request.json():
        shutil.move(move["src"], move["dest"])
    request.answer()


@route("POST", "/files/permissions")
def files_permissions(request):
    for path, wanted in request.json().items():
        permit(path, wanted)
    request.answer()


@route("POST", "/files/replace")
def files_replace(request):
    counts = {}
    for path, change in request.json().items():
        with open(path, encoding="utf-8") as source:
            text = source.read()
        counts[path] = {"replacedCount": text.count(change["old"])}
        with open(path, "w", encoding="utf-8") as target:
            target.write(text.replace(change["old"], change["new"]))
    request.answer(counts)


@route("GET", "/files/search")
def files_search(request):
    base, pattern = request.one("path"), request.one("pattern") or "**"
    found = []
    for folder, _, names in os.walk(base):
        for name in names:
            relative = os.path.relpath(os.path.join(folder, name), base)
            if pattern == "**" or fnmatch.fnmatch(relative, pattern) or fnmatch.fnmatch(relative, pattern.removeprefix("**/")):
                found.append(describe(os.path.join(folder, name)))
    request.answer(found)


@route("POST", "/files/upload")
def files_upload(request):
    """Multipart: a `metadata` part says where the `file` part after it goes; repeated."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers["Content-Type"])[1].encode()
    wanted = None
    for part in request.body().split(b"--" + boundary)[1:-1]:
        head, _, data = part[2:-2].partition(b"\r\n\r\n")
        if b'name="metadata"' in head:
            wanted = json.loads(data)
        elif b'name="file"' in head:
            os.makedirs(os.path.dirname(wanted["path"]) or "/", exist_ok=True)
            with open(wanted["path"], "wb") as target:
                target.write(data)
            permit(wanted["path"], wanted)
    request.answer()


@route("GET", "/files/download")
def files_download(request):
    with open(request.one("path"), "rb") as source:
        data = source.read()
    span = re.match(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if span:
        first = int(span[1] or 0)
        last = min(int(span[2]) if span[2] else len(data) - 1, len(data) - 1)
        request.answer(data[first : last + 1], 206, "application/octet-stream", [("Content-Range", f"bytes {first}-{last}/{len(data)}")])
    elif request.one("offset") or request.one("limit"):
        lines = data.split(b"\n")[max(int(request.one("offset") or 1) - 1, 0) :]
        request.answer(b"\n".join(lines[: int(request.one("limit") or len(lines))]), kind="text/plain")
    else:
        request.answer(data, kind="application/octet-stream")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


if __name__ == "__main__":
    Server(("0.0.0.0", PORT), Handler).serve_forever()
