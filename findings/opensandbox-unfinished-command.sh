#!/bin/sh
# Product: Python package opensandbox 1.1.1, with a server of twenty lines in place of OpenSandbox.
# Behaviour: the event stream of a command ends in order after some output, without the event that completes it.
#   commands.run returns as usual, with that output, no error and no exit code. Only a stream cut within its framing raises.
# Output seen: run returned: stdout hi, error None, exit_code None, complete None.
# Guess before: an exception, as for any answer that is not whole.
# Why it matters: a proxy that turns a lost sandbox into an orderly end of its answer makes a killed command look finished.
#   A stream that was cut upstream has to be cut towards the client too.
# Seen: 2026-12-01
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$dir/venv"
timeout 200 "$dir/venv/bin/pip" install --quiet opensandbox==1.1.1
timeout 60 "$dir/venv/bin/python" - <<'END'
import asyncio, json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from opensandbox import Sandbox
from opensandbox.config import ConnectionConfig

MOMENT = "2026-01-01T00:00:00Z"
SANDBOX = {"id": "a", "status": {"state": "Running"}, "createdAt": MOMENT, "expiresAt": MOMENT, "entrypoint": ["x"]}
EVENTS = ({"type": "init", "text": "1", "timestamp": 1}, {"type": "stdout", "text": "hi", "timestamp": 1})


class Server(BaseHTTPRequestHandler):
    def answer(self, body, status=200, kind="application/json"):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        endpoint = {"endpoint": "127.0.0.1:%d" % self.server.server_port, "headers": {}}
        self.answer(json.dumps(endpoint if "/endpoints/" in self.path else SANDBOX).encode())

    def do_POST(self):
        if self.path == "/command":
            self.answer(b"".join(json.dumps(event).encode() + b"\n\n" for event in EVENTS), kind="text/event-stream")
        else:
            self.answer(json.dumps(SANDBOX).encode(), 202)

    def log_message(self, *args):
        pass


async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = ConnectionConfig(domain=f"127.0.0.1:{server.server_port}", api_key="k")
    sandbox = await Sandbox.create("image", connection_config=config)
    run = await sandbox.commands.run("echo hi; sleep 60")
    await sandbox.close()
    text = "".join(message.text for message in run.logs.stdout)
    print(f"run returned: stdout {text}, error {run.error}, exit_code {run.exit_code}, complete {run.complete}")
    return (text, run.error, run.exit_code, run.complete)


if asyncio.run(asyncio.wait_for(main(), 40)) != ("hi", None, None, None):
    sys.exit("the behaviour has changed")
END
