"""The credential vault: credentials and bindings by name, kept in memory, their values never told again."""

import ipaddress
import itertools

from policies import Refused, matches

KINDS = ("credentials", "bindings")
MATCH = {"hosts": None, "schemes": ["https"], "ports": [443], "methods": ["GET", "POST", "PUT", "PATCH", "DELETE"], "paths": ["/*"]}
AUTH_FIELDS = {
    "bearer": {"credential"},
    "basic": {"credential"},
    "apiKey": {"credential", "name"},
    "customHeaders": {"headers"},
}
RESERVED = {"host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "forwarded"}
RESERVED_PREFIXES = ("content-", "proxy-", "x-forwarded-")
MUTATIONS = ("add", "replace", "delete")
PATH = "/credential-vault"


def fields(value, known, what):
    """The object, if it is one and has no other fields."""
    if not isinstance(value, dict):
        raise Refused(400, f"invalid request body: {what} is not an object")
    if unknown := value.keys() - set(known):
        raise Refused(400, f'invalid request body: json: unknown field "{min(unknown)}"')
    return value


def named(value, known, what):
    fields(value, {"name", *known}, what)
    if not value.get("name"):
        raise Refused(400, f"{what}: name is required")
    return value["name"]


def credential(value):
    named(value, {"source"}, "credential")
    source = {"type": "inline", **fields(value.get("source") or {}, {"type", "value"}, "source")}
    if source["type"] != "inline" or not source.get("value"):
        raise Refused(400, f"credential {value['name']}: an inline source needs a value")
    return {"name": value["name"], "source": source}


def host(text):
    """A name with a dot in it, or `*.` before one; no address."""
    bare = text.removeprefix("*.")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if "." in bare and "*" not in bare:
            return text.lower()
    raise Refused(400, f"match.hosts: {text!r} is not a host name")


def binding(value):
    named(value, {"match", "auth"}, "binding")
    match = {**MATCH, **fields(value.get("match") or {}, MATCH, "match")}
    if not match["hosts"]:
        raise Refused(400, f"binding {value['name']}: match.hosts is required")
    match["hosts"] = [host(text) for text in match["hosts"]]
    if not set(match["ports"]) <= {80, 443}:
        raise Refused(400, f"binding {value['name']}: match.ports: only 80 and 443")
    auth = value.get("auth") or {}
    if auth.get("type") not in AUTH_FIELDS:
        raise Refused(400, f"binding {value['name']}: unsupported auth type")
    fields(auth, {"type", *AUTH_FIELDS[auth["type"]]}, "auth")
    for name in injected(auth):
        if not name or name.lower() in RESERVED or name.lower().startswith(RESERVED_PREFIXES):
            raise Refused(400, f"binding {value['name']}: header {name!r} cannot be injected")
    return {"name": value["name"], "match": match, "auth": auth}


def injected(auth):
    """Names of the headers that a binding sets, where it names them."""
    if auth["type"] == "customHeaders":
        return [header.get("name", "") for header in auth.get("headers") or ()]
    return [auth.get("name", "")] if auth["type"] == "apiKey" else []


READERS = {"credentials": credential, "bindings": binding}


def used(auth):
    """Names of the credentials that a binding takes values from."""
    if auth["type"] == "customHeaders":
        return [header.get("credential") for header in auth.get("headers") or ()]
    return [auth.get("credential")]


def meet(one, other):
    """Whether one request could be meant by both, with neither more exact than the other."""
    if not all(set(one["match"][key]) & set(other["match"][key]) for key in ("schemes", "ports", "methods")):
        return False
    for left, right in itertools.product(one["match"]["hosts"], other["match"]["hosts"]):
        wild = left.startswith("*.")
        if wild == right.startswith("*.") and (left == right or (wild and (matches(left, right[2:]) or matches(right, left[2:])))):
            return True
    return False


class Vault:
    """Nothing until somebody makes one; every change is a revision, and one that cannot be made whole changes nothing."""

    def __init__(self):
        self.revision, self.kept = 0, None

    # what is told

    def shown(self, kind, name):
        item = self.kept[kind][name]
        if kind == "credentials":
            return {"name": name, "sourceType": item["source"]["type"], "revision": item["revision"]}
        auth = {key: item["auth"][key] for key in ("type", "name") if item["auth"].get(key)}
        return {"name": name, "revision": item["revision"], "match": item["match"], "auth": auth}

    def state(self, kinds=KINDS):
        return {"revision": self.revision, **{kind: [self.shown(kind, name) for name in self.kept[kind]] for kind in kinds}}

    def read(self, path):
        """Status and value for a GET."""
        kind, _, name = path.removeprefix(PATH).strip("/").partition("/")
        if self.kept is None or (kind and kind not in self.kept) or (name and name not in self.kept[kind]):
            raise Refused(404, "credential vault not found" if self.kept is None else "not found")
        return 200, self.shown(kind, name) if name else self.state((kind,)) if kind else self.state()

    # what is changed

    def check(self, policy, kept=None):
        """Raises Refused when a host of a binding is not allowed by an explicit rule."""
        for item in ((kept or self.kept or {}).get("bindings") or {}).values():
            for pattern in item["match"]["hosts"]:
                if not policy.covers(pattern):
                    raise Refused(400, f"credential vault policy validation: {pattern} is not explicitly allowed")

    def create(self, body, policy):
        fields(body, KINDS, "request")
        if self.kept is not None:
            raise Refused(409, "credential vault already exists")
        self.commit({kind: {} for kind in KINDS}, {kind: {"add": body.get(kind)} for kind in KINDS}, policy, 1)
        return 201, self.state()

    def patch(self, body, policy):
        fields(body, ("expectedRevision", *KINDS), "request")
        if self.kept is None:
            raise Refused(404, "credential vault not found")
        if body.get("expectedRevision") not in (None, self.revision):
            raise Refused(409, f"revision conflict: the revision is {self.revision}")
        kept = {kind: dict(items) for kind, items in self.kept.items()}
        self.commit(kept, {kind: body.get(kind) or {} for kind in KINDS}, policy, self.revision + 1)
        return 200, self.state()

    def commit(self, kept, wanted, policy, revision):
        for kind, items in kept.items():
            self.apply(kind, items, fields(wanted[kind], MUTATIONS, kind), revision)
        for item in kept["bindings"].values():
            for name in used(item["auth"]):
                if name not in kept["credentials"]:
                    raise Refused(400, f"binding {item['name']}: credential {name!r} not found")
        for one, other in itertools.combinations(kept["bindings"].values(), 2):
            if meet(one, other):
                raise Refused(400, f"bindings {one['name']} and {other['name']} are ambiguous")
        self.check(policy, kept)
        self.revision, self.kept = revision, kept

    @staticmethod
    def apply(kind, items, asked, revision):
        told = [*(asked.get("delete") or ()), *(item.get("name") for verb in MUTATIONS[:2] for item in asked.get(verb) or ())]
        if len(told) != len(set(told)):
            raise Refused(400, f"{kind}: a name is in two operations")
        for name in asked.get("delete") or ():
            if items.pop(name, None) is None:
                raise Refused(404, f"{kind}: {name} not found")
        for verb in MUTATIONS[:2]:
            for value in asked.get(verb) or ():
                item = READERS[kind](value)
                if (item["name"] in items) == (verb == "add"):
                    raise Refused(409 if verb == "add" else 404, f"{kind}: cannot {verb} {item['name']}")
                items[item["name"]] = {**item, "revision": revision}

    def delete(self):
        if self.kept is None:
            raise Refused(404, "credential vault not found")
        self.revision, self.kept = 0, None
        return 204, None
