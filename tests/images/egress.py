#!/usr/bin/python3
"""Stand-in for the egress sidecar in tests: answers name lookups by the policy, and in mode dns+nft refuses addresses.

In both modes the namespace asks this program for names, through the resolv.conf that its containers share: a denied one
does not exist, an allowed one stands for the address that its first label spells (`172-17-0-1.example.test`). In mode
dns+nft rules on addresses hold as well, as routes of the namespace: `deny` targets get one that refuses; with a default
of deny everything but the local network, `allow` targets and the addresses of allowed names is refused.
The API is the sidecar's: `/healthz`, `/policy` and `/credential-vault` on port 18080, behind a token. The vault keeps
and shows what it is given, without its secrets; nothing here puts a credential into a request.
"""

import ipaddress
import json
import os
import socket
import struct
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 18080
TOKEN = os.environ.get("OPENSANDBOX_EGRESS_TOKEN", "")
MODE = os.environ.get("OPENSANDBOX_EGRESS_MODE", "dns")
POLICY = json.loads(os.environ.get("OPENSANDBOX_EGRESS_RULES") or "{}")
LOCK = threading.Lock()
READY = threading.Event()

NEW_ROUTE, DELETE_ROUTE = 24, 25
REQUEST, ACKNOWLEDGE, REPLACE, CREATE = 0x1, 0x4, 0x100, 0x400
UNICAST, PROHIBIT = 1, 8
DESTINATION, OUT_INTERFACE, GATEWAY, PRIORITY = 1, 4, 5, 6
MAIN_TABLE, BOOT_PROTOCOL = 254, 3


def attribute(kind, data):
    padded = data + b"\0" * (-len(data) % 4)
    return struct.pack("HH", 4 + len(data), kind) + padded


def change_route(action, network, kind, gateway=None, interface=0, priority=0):
    """One netlink request; raises OSError if the kernel refuses (3: no such route)."""
    body = struct.pack("BBBBBBBBI", socket.AF_INET, network.prefixlen, 0, 0, MAIN_TABLE, BOOT_PROTOCOL, 0, kind, 0)
    if network.prefixlen:
        body += attribute(DESTINATION, network.network_address.packed)
    if gateway:
        body += attribute(GATEWAY, socket.inet_aton(gateway)) + attribute(OUT_INTERFACE, struct.pack("I", interface))
    if priority:
        body += attribute(PRIORITY, struct.pack("I", priority))
    flags = REQUEST | ACKNOWLEDGE | (CREATE | REPLACE if action == NEW_ROUTE else 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(struct.pack("IHHII", 16 + len(body), action, flags, 1, 0) + body)
        code = -struct.unpack("i", link.recv(4096)[16:20])[0]
    if code:
        raise OSError(code, os.strerror(code))


def default_gateway():
    with open("/proc/net/route", encoding="ascii") as lines:
        for line in list(lines)[1:]:
            name, destination, gateway = line.split()[:3]
            if destination == "00000000":
                return socket.inet_ntoa(struct.pack("<L", int(gateway, 16))), socket.if_nametoindex(name)
    return None, 0


EVERYTHING = ipaddress.ip_network("0.0.0.0/0")
ROUTER, INTERFACE = default_gateway()
APPLIED = []


def networks(targets):
    for target in targets:
        try:
            yield ipaddress.ip_network(target)
        except ValueError:
            continue


def enforce():
    """Makes the routes say what POLICY says; in mode dns only names are looked at."""
    if MODE != "dns+nft":
        return
    while APPLIED:
        network, kind = APPLIED.pop()
        change_route(DELETE_ROUTE, network, kind)
    for action, kind in (("deny", PROHIBIT), ("allow", UNICAST)):
        for network in networks(rule["target"] for rule in POLICY.get("egress", ()) if rule["action"] == action):
            change_route(NEW_ROUTE, network, kind, ROUTER if kind == UNICAST else None, INTERFACE)
            APPLIED.append((network, kind))
    if POLICY.get("defaultAction", "deny") == "deny":
        change_route(NEW_ROUTE, EVERYTHING, PROHIBIT)
    elif ROUTER:
        change_route(NEW_ROUTE, EVERYTHING, UNICAST, ROUTER, INTERFACE)


def permit(address):
    """Whoever may look up a name may go where it leads."""
    if MODE == "dns+nft" and POLICY.get("defaultAction", "deny") == "deny":
        network = ipaddress.ip_network(address)
        if not any(network.subnet_of(target) for target in networks(denied())):
            change_route(NEW_ROUTE, network, UNICAST, ROUTER, INTERFACE)
            APPLIED.append((network, UNICAST))


def denied():
    return [rule["target"] for rule in POLICY.get("egress", ()) if rule["action"] == "deny"]


def may_look_up(name):
    for rule in POLICY.get("egress", ()):
        target = rule["target"].lower()
        if name == target or (target.startswith("*.") and name.endswith(target[1:])):
            return rule["action"] == "allow"
    return POLICY.get("defaultAction", "deny") == "allow"


def look_up(name):
    """The address a name stands for, None for one that does not exist."""
    spelled = name.split(".")[0].replace("-", ".")
    try:
        address = str(ipaddress.IPv4Address(spelled))
    except ValueError:
        return None
    with LOCK:
        if not may_look_up(name):
            return None
        permit(address)
    return address


def answer_lookup(query):
    """The answer to one question as RFC 1035 frames it; other types than A have no records."""
    end = query.index(b"\0", 12)
    labels, place = [], 12
    while place < end:
        labels.append(query[place + 1 : place + 1 + query[place]].decode())
        place += 1 + query[place]
    question = query[12 : end + 5]
    address = look_up(".".join(labels).lower())
    wanted = question[-4:-2] == b"\0\1"
    code = 0x8180 if address else 0x8183
    head = query[:2] + struct.pack(">HHHHH", code, 1, 1 if address and wanted else 0, 0, 0)
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 0, 4) + socket.inet_aton(address) if address and wanted else b""
    return head + question + record


def serve_names():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        with open("/etc/resolv.conf", "w", encoding="ascii") as shared:
            shared.write("nameserver 127.0.0.1\n")
        READY.set()
        while True:
            query, client = server.recvfrom(512)
            server.sendto(answer_lookup(query), client)


def merged(rules):
    first = {}
    for rule in rules:
        first.setdefault(rule["target"], rule)
    return [rule for rule in POLICY.get("egress", ()) if rule["target"] not in first] + list(first.values())


class Refused(Exception):
    """An answer of the vault that is not a success."""


class Vault:
    """Credentials and bindings by name; every change is a revision, and one that cannot be made whole changes nothing."""

    def __init__(self):
        self.revision, self.kept = 0, None

    def shown(self, kind, name):
        item = self.kept[kind][name]
        if kind == "credentials":
            return {"name": name, "sourceType": item["source"]["type"], "revision": item["revision"]}
        auth = {key: item["auth"][key] for key in ("type", "name") if item["auth"].get(key)}
        return {"name": name, "revision": item["revision"], "match": item["match"], "auth": auth}

    def state(self, kinds=("credentials", "bindings")):
        return {"revision": self.revision, **{kind: [self.shown(kind, name) for name in self.kept[kind]] for kind in kinds}}

    def change(self, wanted):
        if wanted.get("expectedRevision", self.revision) != self.revision:
            raise Refused(409, "REVISION_CONFLICT", f"the revision is {self.revision}")
        changed = {kind: dict(items) for kind, items in self.kept.items()}
        for kind, items in changed.items():
            asked = wanted.get(kind) or {}
            for name in asked.get("delete") or ():
                if items.pop(name, None) is None:
                    raise Refused(404, "NOT_FOUND", f"{kind}: {name}")
            for verb in ("add", "replace"):
                for item in asked.get(verb) or ():
                    if (item["name"] in items) == (verb == "add"):
                        raise Refused(409, "CONFLICT", f"{kind}: {verb} {item['name']}")
                    items[item["name"]] = {**item, "revision": self.revision + 1}
        for binding in changed["bindings"].values():
            if binding["auth"].get("credential", None) not in (None, *changed["credentials"]):
                raise Refused(400, "INVALID", f"binding {binding['name']}: no such credential")
        self.revision, self.kept = self.revision + 1, changed

    def answer(self, method, path, body):
        """What one request is answered: status and value."""
        if method == "POST":
            if self.kept is not None:
                raise Refused(409, "CONFLICT", "there is a vault already")
            self.kept = {"credentials": {}, "bindings": {}}
            try:
                self.change({kind: {"add": body.get(kind)} for kind in self.kept})
            except Refused:
                self.kept = None
                raise
            return 201, self.state()
        if self.kept is None:
            raise Refused(404, "NOT_FOUND", "there is no vault")
        if method == "DELETE":
            self.kept = None
            return 200, {"status": "ok"}
        if method == "PATCH":
            self.change(body)
        kind, _, name = path.removeprefix("/credential-vault").strip("/").partition("/")
        if kind and kind not in self.kept or name and name not in self.kept[kind]:
            raise Refused(404, "NOT_FOUND", path)
        return 200, self.shown(kind, name) if name else self.state((kind,)) if kind else self.state()


VAULT = Vault()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        if TOKEN and self.headers.get("OPENSANDBOX-EGRESS-AUTH") != TOKEN:
            self.answer(401, {"code": "UNAUTHORIZED", "message": "wrong or missing token"})
        elif self.path == "/healthz":
            self.answer(200, {"status": "ok"})
        elif self.path == "/policy":
            with LOCK:
                self.change(body)
            self.answer(200, {"status": "ok", "mode": MODE, "policy": POLICY})
        elif self.path.startswith("/credential-vault"):
            self.answer(*self.vault(body))
        else:
            self.answer(404, {"code": "NOT_FOUND", "message": self.path})

    def vault(self, body):
        try:
            with LOCK:
                return VAULT.answer(self.command, urllib.parse.unquote(self.path), body)
        except Refused as refused:
            status, code, message = refused.args
            return status, {"code": code, "message": message}

    def change(self, body):
        if self.command in ("PUT", "POST"):
            POLICY.clear()
            POLICY.update(body)
        elif self.command == "PATCH":
            POLICY["egress"] = merged(body)
        elif self.command == "DELETE":
            POLICY["egress"] = [rule for rule in POLICY.get("egress", ()) if rule["target"] not in body]
        if self.command != "GET":
            enforce()

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any


if __name__ == "__main__":
    enforce()
    threading.Thread(target=serve_names, daemon=True).start()
    READY.wait()
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
