"""The sidecar's API on port 18080: health, policy and vault. Errors are plain text with a newline."""

import hmac
import ipaddress
import json
import os
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from filters import MODE
from policies import Policy, Refused
from vaults import PATH as VAULT_PATH
from vaults import Vault

TOKEN = os.environ.get("OPENSANDBOX_EGRESS_TOKEN", "")
HEADER = "OPENSANDBOX-EGRESS-AUTH"
MOST_BYTES = 1024 * 1024
POLICY_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def port():
    return int((os.environ.get("OPENSANDBOX_EGRESS_HTTP_ADDR") or ":18080").rpartition(":")[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = packets = proxy = vault = None

    def log_message(self, *arguments):
        pass

    # answering

    def send(self, status, data, kind, allow=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        if allow:
            self.send_header("Allow", ", ".join(allow))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(data)

    def text(self, status, text, allow=()):
        self.send(status, text.encode() + b"\n", "text/plain; charset=utf-8", allow)

    def json(self, status, value):
        self.send(status, b"" if value is None else json.dumps(value).encode() + b"\n", "application/json")

    # asking

    def take_body(self):
        """The body, cut where it is too long; the rest of it is read and forgotten."""
        length = int(self.headers.get("Content-Length") or 0)
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self.chunks()[:MOST_BYTES]
        return self.rfile.read(length)[:MOST_BYTES]

    def chunks(self):
        parts = []
        while True:
            parts.append(self.rfile.read(int(self.rfile.readline().split(b";")[0], 16)))
            self.rfile.readline()
            if not parts[-1]:
                return b"".join(parts)

    def document(self, data):
        try:
            return json.loads(data)
        except ValueError as error:
            raise Refused(400, f"invalid request body: {error}") from error

    def any_method(self):
        data = self.take_body()
        path = urllib.parse.urlsplit(self.path).path
        try:
            self.route(path, data)
        except Refused as refused:
            self.text(refused.status, refused.text)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = any_method

    def route(self, path, data):
        if path == "/healthz":
            ready = self.proxy.ready or not self.proxy.on
            self.send(200 if ready else 503, b"ok" if ready else b"mitmproxy not ready", "text/plain; charset=utf-8")
        elif path == "/policy":
            self.on_policy(data)
        elif path == f"{VAULT_PATH}/_active" and self.command == "GET":
            self.text(403, "forbidden")
        elif path == VAULT_PATH or path.startswith((f"{VAULT_PATH}/credentials", f"{VAULT_PATH}/bindings")):
            self.on_vault(urllib.parse.unquote(path), data)
        else:
            self.text(404, "404 page not found")

    def authorised(self):
        sent = self.headers.get(HEADER) or ""
        if TOKEN and not hmac.compare_digest(sent.encode("latin-1"), TOKEN.encode()):
            raise Refused(401, "unauthorized")

    # policy

    def on_policy(self, data):
        self.authorised()
        if self.command not in POLICY_METHODS:
            self.text(405, "method not allowed", POLICY_METHODS)
        elif self.command == "GET":
            policy = self.state.policy
            self.json(200, {**self.told(policy), "policy": policy.shown()})
        else:
            change = {"PATCH": self.patch, "DELETE": self.delete}.get(self.command, self.replace)
            with self.state.lock:
                self.json(200, change(data))

    def told(self, policy):
        return {"status": "ok", "mode": policy.mode, "enforcementMode": MODE}

    def write(self, policy):
        self.vault.check(policy)
        self.state.write(policy, self.packets)
        return self.told(policy)

    def replace(self, data):
        if not data.strip():
            self.write(Policy())
            return {"status": "ok", "mode": "deny_all", "reason": "policy reset to default deny-all"}
        return self.write(Policy.read(self.document(data)))

    def listed(self, data, kind):
        value = self.document(data) if data.strip() else None
        if not isinstance(value, list) or not value or not all(isinstance(item, kind) for item in value):
            raise Refused(400, "invalid request body: a list that is not empty is expected")
        return value

    def patch(self, data):
        return self.write(self.state.policy.merged(self.listed(data, dict)))

    def delete(self, data):
        policy = self.state.policy
        left = policy.without(self.listed(data, str))
        if len(left.rules) == len(policy.rules or ()):
            return {**self.told(policy), "reason": "no matching rules"}
        return self.write(left)

    # vault

    def on_vault(self, path, data):
        methods = ("GET", "POST", "PATCH", "DELETE") if path == VAULT_PATH else ("GET",)
        self.authorised()
        if self.command not in methods:
            self.text(405, "method not allowed", methods)
            return
        with self.state.lock:
            self.json(*(self.vault.read(path) if self.command == "GET" else self.change_vault(data)))

    def change_vault(self, data):
        if not TOKEN or not self.proxy.on or self.proxy.insecure or not self.proxy.ready:
            raise Refused(412, "credential vault needs a token and the transparent proxy, ready and verifying")
        # Who says so in a forwarded header is not asked: only the connection's own peer counts.
        if not ipaddress.ip_address(self.client_address[0]).is_loopback:
            raise Refused(426, "credential vault requires TLS or a loopback connection")
        if self.command == "DELETE":
            return self.vault.delete()
        change = self.vault.create if self.command == "POST" else self.vault.patch
        return change(self.document(data), self.state.policy)


def serve(state, packets, proxy):
    Handler.state, Handler.packets, Handler.proxy, Handler.vault = state, packets, proxy, Vault()
    ThreadingHTTPServer(("0.0.0.0", port()), Handler).serve_forever()
