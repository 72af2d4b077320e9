"""Commands with their streamed output, in the foreground and in the background."""

import os
import shlex
import signal
import subprocess
import threading
import time
import uuid

from files import utc
from web import Events, Problem, not_found, route


def environment(extra):
    """Own environment, then what EXECD_ENVS adds, then what the request adds."""
    merged = dict(os.environ)
    try:
        with open(merged.get("EXECD_ENVS", ""), encoding="utf-8") as lines:
            for line in lines:
                key, equals, value = line.rstrip("\n").partition("=")
                if equals:
                    merged[key] = unquoted(value)
    except OSError:
        pass
    merged.update(extra or {})
    return merged


def unquoted(value):
    """A value in quotes as shells read it, but for the variables in it; any other as it is."""
    return shlex.split(value)[0] if value[:1] in ("'", '"') and value.endswith(value[:1]) and len(value) > 1 else value


class Run:
    """Something that runs and writes; kept after its end so that status and logs can be asked for.

    Who inherits says what the two `streams` are, how to `wait` for the exit code and how to `kill`.
    """

    known = {}

    def __init__(self, text, timeout_ms=None):
        self.id, self.text = uuid.uuid4().hex, text
        self.started, self.finished, self.code = time.time(), None, None
        self.lines = []
        self.streams = {}
        self.timer = threading.Timer((timeout_ms or 0) / 1000, self.kill)
        self.timer.daemon = True
        if timeout_ms:
            self.timer.start()
        Run.known[self.id] = self

    @classmethod
    def get(cls, run_id):
        if run_id not in cls.known:
            raise not_found("command")
        return cls.known[run_id]

    def follow(self, emit):
        """Reads both streams to their ends; `emit(kind, line)` may be called from two threads."""
        readers = [threading.Thread(target=self._read, args=(kind, stream, emit), daemon=True) for kind, stream in self.streams.items()]
        for reader in readers:
            reader.start()
        code = self.wait()
        self.timer.cancel()
        for reader in readers:
            reader.join()
        self.code, self.finished = code, time.time()

    def _read(self, kind, stream, emit):
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.lines.append(line)
            try:
                emit(kind, line)
            except OSError:  # the client left: nobody listens to the rest, and nothing else would end it
                self.kill()
                emit = ignore
        stream.close()


def ignore(kind, line):
    """Where the output of a command in the background goes."""


class Command(Run):
    """A process of its own."""

    def __init__(self, argv, cwd=None, env=None, uid=None, gid=None, timeout_ms=None):
        self.process = subprocess.Popen(
            argv, cwd=cwd or None, env=env, user=uid, group=gid, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )
        super().__init__(" ".join(argv), timeout_ms)
        self.streams = {"stdout": self.process.stdout, "stderr": self.process.stderr}

    def wait(self):
        return self.process.wait()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass


def stream(request, run, background=False):
    """Answers with the run's events."""
    events = Events(request)
    events.send("init", text=run.id)
    if background:
        threading.Thread(target=run.follow, args=(ignore,), daemon=True).start()
        events.send("execution_complete", execution_time=0)
        events.close()
        return
    run.follow(lambda kind, line: events.send(kind, text=line))
    if run.code == 0:
        events.send("execution_complete", execution_time=int((run.finished - run.started) * 1000))
    else:
        events.send("error", error={"ename": "CommandExecError", "evalue": str(run.code), "traceback": [f"exit status {run.code}"]})
    events.close()


def shell():
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


@route("POST", "/command")
def command_run(request):
    asked = request.json()
    argv = asked.get("argv") or [shell(), "-c", asked["command"]]
    options = {"uid": asked.get("uid"), "gid": asked.get("gid"), "timeout_ms": asked.get("timeout")}
    try:
        command = Command(argv, cwd=asked.get("cwd"), env=environment(asked.get("envs")), **options)
    except OSError as error:
        raise Problem(400, "INVALID_REQUEST", str(error)) from error
    stream(request, command, background=bool(asked.get("background")))


@route("DELETE", "/command")
def command_interrupt(request):
    Run.get(request.one("id")).kill()
    request.answer()


@route("GET", "/command/status/([^/]+)")
def command_status(request, run_id):
    run = Run.get(run_id)
    shown = {"id": run.id, "running": run.finished is None, "started_at": utc(run.started), "content": run.text}
    if run.finished is not None:
        shown.update(exit_code=run.code, finished_at=utc(run.finished))
    request.answer(shown)


@route("GET", "/command/([^/]+)/logs")
def command_logs(request, run_id):
    lines = Run.get(run_id).lines
    start, end = int(request.one("cursor") or 0), len(lines)
    text = "".join(line + "\n" for line in lines[start:end])
    request.answer(text.encode(), kind="text/plain", headers=[("EXECD-COMMANDS-TAIL-CURSOR", str(end))])
