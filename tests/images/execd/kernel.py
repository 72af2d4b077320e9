"""What runs the code of one context: reads `{"code": …}` lines, answers with events, the last of them `done`.

Names last from one piece of code to the next. The value of a last expression is a result, as in a notebook. What the
code prints becomes events; SIGINT ends the code that runs, and means nothing between two.
"""

import ast
import contextlib
import io
import json
import os
import signal
import traceback

FILE = "<code>"


class Output(io.TextIOBase):
    """A standard stream whose lines are events; what is left of a line follows when the code is done."""

    def __init__(self, kind, tell):
        self.kind, self.tell, self.left = kind, tell, ""

    def writable(self):
        return True

    def write(self, text):
        *lines, self.left = (self.left + text).split("\n")
        for line in lines:
            self.tell(self.kind, text=line + "\n")
        return len(text)

    def flush(self):
        if self.left:
            self.tell(self.kind, text=self.left)
        self.left = ""


def evaluate(code, names):
    """Runs the code; returns the value of its last expression, or None."""
    tree = ast.parse(code, FILE)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, FILE, "exec"), names)
    return eval(compile(ast.Expression(last.value), FILE, "eval"), names) if last else None


def described(error):
    """The error as events tell it; frames of this file are left out."""
    inner = error.__traceback__
    while inner and inner.tb_frame.f_code.co_filename != FILE:
        inner = inner.tb_next
    lines = traceback.format_exception(type(error), error, inner)
    return {"ename": type(error).__name__, "evalue": str(error), "traceback": [line.rstrip("\n") for line in lines]}


def main():
    asked, channel = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # the code, and programs it starts, must not get among our lines
        os.dup2(nothing, standard)
    names, busy = {"__name__": "__main__"}, False

    def tell(kind, **fields):
        channel.write(json.dumps({"type": kind, **fields}) + "\n")
        channel.flush()

    def interrupt(number, frame):
        if busy:
            raise KeyboardInterrupt("interrupted")

    signal.signal(signal.SIGINT, interrupt)
    for line in asked:
        out, error = Output("stdout", tell), Output("stderr", tell)
        failure = value = None
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                busy = True
                value = evaluate(json.loads(line)["code"], names)
                busy = False
        except BaseException as raised:  # whatever the code raises, also SystemExit, is its own business
            busy, failure = False, raised
        out.flush()
        error.flush()
        if failure is not None:
            tell("error", error=described(failure))
        elif value is not None:
            tell("result", results={"text": repr(value)})
        tell("done")
