"""What a policy says: rules, their order, what a write makes of them, and where the first one comes from."""

import ipaddress
import json
import os
import sys
import threading

MOST_RULES = int(os.environ.get("OPENSANDBOX_EGRESS_MAX_RULES") or 4096)
FILE = os.environ.get("OPENSANDBOX_EGRESS_POLICY_FILE", "")


class Refused(Exception):
    """A request that is not granted: status and text of the answer."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status, self.text = status, text


def rule(value):
    if not isinstance(value, dict):
        raise Refused(400, "invalid policy: a rule is an object")
    action, target = str(value.get("action") or "deny").lower(), str(value.get("target") or "").strip()
    if action not in ("allow", "deny"):
        raise Refused(400, f"invalid policy: unsupported action {action!r}")
    if not target:
        raise Refused(400, "invalid policy: egress target cannot be empty")
    return {"action": action, "target": target}


def network(target):
    """The addresses that a target stands for, or None for a name."""
    try:
        return ipaddress.ip_network(target, strict=False)
    except ValueError:
        return None


def matches(target, name):
    target, name = target.lower(), name.lower()
    return name.endswith(target[1:]) and len(name) >= len(target) if target.startswith("*.") else name == target


class Policy:
    """A default and rules in order; None for the rules until somebody sets any."""

    def __init__(self, default="deny", rules=None):
        self.default, self.rules = default, rules

    @staticmethod
    def read(value):
        """What a document says; an empty one denies everything. Its default is taken as it is."""
        value = value or {}
        if not isinstance(value, dict):
            raise Refused(400, "invalid policy: not an object")
        rules = value.get("egress")
        return Policy(value.get("defaultAction") or "deny", None if rules is None else [rule(entry) for entry in rules])

    def shown(self):
        return {"defaultAction": self.default, "egress": self.rules}

    @property
    def mode(self):
        if self.rules:
            return "enforcing"
        return "allow_all" if self.default == "allow" else "deny_all"

    def explicit(self, name):
        """What the first rule that fits this name says, or None."""
        for entry in self.rules or ():
            if network(entry["target"]) is None and matches(entry["target"], name):
                return entry["action"]
        return None

    def allows(self, name):
        return (self.explicit(name) or self.default) == "allow"

    def covers(self, pattern):
        """Whether an explicit rule allows every host of a pattern (`a.test`, `*.a.test`) and none denies it."""
        return self.explicit(pattern) == "allow"  # the star is a label that no rule spells out

    def merged(self, rules):
        """With these rules in front; the first for a target is the one that stays."""
        kept = {}
        for entry in [*map(rule, rules), *(self.rules or ())]:
            kept.setdefault(entry["target"].lower(), entry)
        return Policy(self.default, list(kept.values()))

    def without(self, targets):
        gone = {target.strip().lower() for target in targets}
        return Policy(self.default, [entry for entry in self.rules or () if entry["target"].lower() not in gone])


class State:
    """The policy in force. Writes go to the file first, then to the packet filter, and count only when both did."""

    def __init__(self):
        self.lock = threading.Lock()
        self.policy = first()

    def write(self, policy, packets):
        if len(policy.rules or ()) > MOST_RULES > 0:
            raise Refused(413, f"too many egress rules (max {MOST_RULES})")
        try:
            if FILE:
                with open(FILE, "w", encoding="utf-8") as kept:
                    json.dump(policy.shown(), kept)
            packets.enforce(policy)
        except OSError as error:
            raise Refused(500, f"failed to apply policy: {error}") from error
        self.policy = policy


def first():
    """From the file where it can be read, else from the environment, else nothing is allowed."""
    try:
        if FILE and os.path.exists(FILE):
            with open(FILE, encoding="utf-8") as kept:
                return Policy.read(json.load(kept))
    except (OSError, ValueError, Refused) as error:
        print(f"egress: {FILE} is not read: {error}", file=sys.stderr, flush=True)
    return Policy.read(json.loads(os.environ.get("OPENSANDBOX_EGRESS_RULES") or "null"))
