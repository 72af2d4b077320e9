"""Isolated sessions as far as a stand-in goes: the API is served, but nothing is isolated.

A session is one of `sessions`' shells that begins in its workspace; its files are the sandbox's own.
"""

import os
import threading
import time

from commands import Run, ignore, stream
from files import utc
from sessions import Session, SessionRun
from web import Problem, dispatch, not_found, route

ID = "/v1/isolated/session/([^/]+)"
CURSOR = "EXECD-ISOLATED-TAIL-CURSOR"
ECHOED = ("profile", "workspace", "overlays", "binds", "share_net", "uid", "gid", "idle_timeout_seconds")


class Isolated:
    """A shell and what it was asked for."""

    known = {}

    def __init__(self, asked):
        place = asked.get("workspace") or next(iter(asked.get("overlays") or ()), None)
        if not place or not os.path.isdir(place["path"]):
            raise Problem(400, "INVALID_REQUEST", "a workspace or an overlay that exists is required")
        self.asked, self.created, self.ran = asked, utc(time.time()), None
        self.shell = Session(place["path"])
        del Session.known[self.shell.id]
        Isolated.known[self.shell.id] = self

    @classmethod
    def get(cls, session_id):
        if session_id not in cls.known:
            raise not_found("isolated session")
        return cls.known[session_id]

    def shown(self):
        echoed = {name: self.asked[name] for name in ECHOED if self.asked.get(name) is not None}
        return {"session_id": self.shell.id, "status": "active", "created_at": self.created, "last_run_at": self.ran, **echoed}


@route("POST", "/v1/isolated/session")
def isolated_create(request):
    request.answer(Isolated(request.json()).shown(), 201)


@route("GET", "/v1/isolated/sessions")
def isolated_list(request):
    request.answer({"sessions": [known.shown() for known in list(Isolated.known.values())]})


@route("GET", "/v1/isolated/capabilities")
def isolated_capabilities(request):
    request.answer({"available": True, "isolator": "none", "message": "a stand-in isolates nothing"})


@route("GET", ID)
def isolated_get(request, session_id):
    request.answer(Isolated.get(session_id).shown())


@route("DELETE", ID)
def isolated_delete(request, session_id):
    Isolated.get(session_id).shell.kill()
    del Isolated.known[session_id]
    request.answer()


def exports(envs):
    """What a run adds to the environment; only the session's shell could take it back, and does not."""
    return "".join(f"export {name}={quoted(value)}\n" for name, value in (envs or {}).items())


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


@route("POST", ID + "/run")
def isolated_run(request, session_id):
    session, asked = Isolated.get(session_id), request.json()
    session.ran = utc(time.time())
    run = SessionRun(session.shell, exports(asked.get("envs")) + asked["code"], None, 1000 * (asked.get("timeout_seconds") or 0))
    if not asked.get("background"):
        with session.shell.lock:
            stream(request, run)
        return

    def follow():
        with session.shell.lock:
            run.follow(ignore)

    threading.Thread(target=follow, daemon=True).start()
    request.answer({"session_id": session_id, "run_id": run.id, "started_at": utc(run.started)}, 202)


@route("GET", ID + "/runs/([^/]+)")
def isolated_run_status(request, session_id, run_id):
    Isolated.get(session_id)
    run = Run.get(run_id)
    shown = {"session_id": session_id, "run_id": run_id, "running": run.finished is None, "started_at": utc(run.started)}
    if run.finished is not None:
        shown.update(exit_code=run.code, finished_at=utc(run.finished))
    request.answer(shown)


@route("GET", ID + "/runs/([^/]+)/logs")
def isolated_run_logs(request, session_id, run_id):
    Isolated.get(session_id)
    text = "".join(line + "\n" for line in list(Run.get(run_id).lines)).encode()
    request.answer(text[int(request.one("cursor") or 0) :], kind="text/plain", headers=[(CURSOR, str(len(text)))])


for method in ("GET", "POST", "DELETE"):

    @route(method, ID + "(/(?:files|directories).*)")
    def isolated_files(request, session_id, path):
        Isolated.get(session_id)
        dispatch(request, path)
