"""Sessions: one bash each, which stays, so that variables, functions and the folder last from run to run.

A run is a file that the session's own shell sources, with both outputs turned into pipes of ours; the shell opens all
three by their names under /proc, and its standard output is left for the exit codes. After a run that ends the shell
(`exit`, a timeout) the next one gets a new shell, in the folder the session started in.
"""

import os
import shlex
import signal
import subprocess
import threading
import uuid

from commands import Run, environment, stream
from web import Problem, not_found, route


class Session:
    """A shell and the lock that keeps its runs one after the other."""

    known = {}

    def __init__(self, folder):
        self.id, self.folder = uuid.uuid4().hex, folder
        self.lock = threading.Lock()
        self.shell = None
        Session.known[self.id] = self

    @classmethod
    def get(cls, session_id):
        if session_id not in cls.known:
            raise not_found("session")
        return cls.known[session_id]

    def start(self):
        self.shell = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"], cwd=self.folder, env=environment(None),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def evaluate(self, line):
        """Has the shell run one line; returns the exit code."""
        if self.shell is None:
            self.start()
        try:
            self.shell.stdin.write(line.encode() + b"; echo $?\n")
            self.shell.stdin.flush()
            told = self.shell.stdout.readline()
        except OSError:
            told = b""
        return int(told) if told else self.end()

    def end(self):
        """The exit code of a shell that is no more."""
        ended, self.shell = self.shell, None
        ended.stdout.close()
        code = ended.wait()
        try:
            ended.stdin.close()
        except OSError:  # what was still to be written has no reader
            pass
        return code

    def kill(self):
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)
        except (AttributeError, OSError):  # it has not begun, or is gone
            pass


class SessionRun(Run):
    """One run in a session's shell."""

    def __init__(self, session, script, folder, timeout_ms):
        super().__init__(script, timeout_ms)
        self.session, self.folder = session, folder
        self.script = os.memfd_create("run")
        os.pwrite(self.script, script.encode(), 0)
        self.ends = []
        for kind in ("stdout", "stderr"):
            reads, writes = os.pipe()
            self.streams[kind] = os.fdopen(reads, "rb")
            self.ends.append(writes)

    def wait(self):
        script, out, error = (f"/proc/{os.getpid()}/fd/{number}" for number in (self.script, *self.ends))
        enter = f"cd -- {shlex.quote(self.folder)} && " if self.folder else ""
        code = self.session.evaluate(f"{{ {enter}. {script}; }} </dev/null >{out} 2>{error}")
        for number in (self.script, *self.ends):
            os.close(number)
        return code

    def kill(self):
        if self.finished is None:
            self.session.kill()


@route("POST", "/session")
def session_create(request):
    folder = request.json().get("cwd") or "/"
    if not os.path.isdir(folder):
        raise Problem(400, "INVALID_REQUEST", f"no such folder: {folder}")
    request.answer({"session_id": Session(folder).id})


@route("POST", "/session/([^/]+)/run")
def session_run(request, session_id):
    session, asked = Session.get(session_id), request.json()
    with session.lock:
        stream(request, SessionRun(session, asked["command"], asked.get("cwd"), asked.get("timeout")))


@route("DELETE", "/session/([^/]+)")
def session_delete(request, session_id):
    Session.get(session_id).kill()
    del Session.known[session_id]
    request.answer()
