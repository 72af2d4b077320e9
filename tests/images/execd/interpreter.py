"""Code contexts: one Python process each (see `kernel`), as far as a stand-in without Jupyter goes.

As in execd the id of a context names what runs in it: events begin with it, and an interrupt asks for it.
"""

import json
import signal
import subprocess
import sys
import threading
import time
import uuid

from commands import environment
from web import Events, Problem, not_found, route

LANGUAGE = "python"


class Context:
    """A kernel and the lock that keeps its pieces of code one after the other."""

    known = {}

    def __init__(self, folder=None):
        self.id, self.lock, self.count = uuid.uuid4().hex, threading.Lock(), 0
        self.process = subprocess.Popen(
            [sys.executable, sys.argv[0], "kernel"], cwd=folder or None, env=environment(None),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def shown(self):
        return {"id": self.id, "language": LANGUAGE}

    def events(self, code):
        """Runs the code; yields what the kernel tells of it."""
        self.process.stdin.write(json.dumps({"code": code}).encode() + b"\n")
        self.process.stdin.flush()
        self.count += 1
        for line in self.process.stdout:
            event = json.loads(line)
            if event["type"] == "done":
                return
            yield event
        yield {"type": "error", "error": {"ename": "KernelDied", "evalue": "the context has ended", "traceback": []}}

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end(self):
        self.process.kill()
        self.process.wait()


DEFAULT = []
"""The context of code that names none, once there was some."""
LOCK = threading.Lock()


def spoken(language):
    if language != LANGUAGE:
        raise Problem(400, "INVALID_REQUEST", f"this stand-in runs {LANGUAGE} only, not {language}")


def context(context_id):
    if context_id in Context.known:
        return Context.known[context_id]
    raise not_found("context")


def default_context():
    with LOCK:
        if not DEFAULT:
            DEFAULT.append(Context())
        return DEFAULT[0]


@route("POST", "/code/context")
def context_create(request):
    asked = request.json()
    spoken(asked.get("language"))
    made = Context(asked.get("cwd"))
    Context.known[made.id] = made
    request.answer(made.shown())


@route("GET", "/code/contexts")
def context_list(request):
    language = request.one("language") or LANGUAGE
    request.answer([known.shown() for known in list(Context.known.values())] if language == LANGUAGE else [])


@route("GET", "/code/contexts/([^/]+)")
def context_get(request, context_id):
    request.answer(context(context_id).shown())


@route("DELETE", "/code/contexts/([^/]+)")
def context_delete(request, context_id):
    context(context_id).end()
    Context.known.pop(context_id, None)
    request.answer()


@route("DELETE", "/code/contexts")
def context_delete_all(request):
    if request.one("language") == LANGUAGE:
        for known in list(Context.known.values()):
            known.end()
            Context.known.pop(known.id, None)
    request.answer()


@route("POST", "/code")
def code_run(request):
    """Init, output as it comes, then count and result, or the error; `execution_complete` ends what went well."""
    asked = request.json()
    wanted = asked.get("context") or {}
    spoken(wanted.get("language") or LANGUAGE)
    found = context(wanted["id"]) if wanted.get("id") else default_context()
    with found.lock:
        events, began, failed = Events(request), time.monotonic(), False
        events.send("init", text=found.id)
        told = found.events(asked["code"])
        try:
            for event in told:
                failed = failed or event["type"] == "error"
                events.send(event.pop("type"), **event)
        except OSError:  # the client left: the code ends, and what it still tells is not the next one's
            found.interrupt()
            for _ in told:
                pass
            raise
        events.send("execution_count", execution_count=found.count)
        if not failed:
            events.send("execution_complete", execution_time=int((time.monotonic() - began) * 1000))
        events.close()


@route("DELETE", "/code")
def code_interrupt(request):
    wanted = request.one("id")
    found = next((one for one in DEFAULT if one.id == wanted), None) or context(wanted)
    found.interrupt()
    request.answer()
