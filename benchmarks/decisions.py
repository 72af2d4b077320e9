"""What each decision about a request costs by itself: which sandbox it is for, may it enter, is it within its limits.

    scripts/bench decisions [--rounds 7]

Runs in this process, on one core, without sockets. The rows of one group stand beside each other: with and without
secure access, with and without limits, the four ways of addressing, tables of ten and of a hundred thousand routes.
Each number is the median of the rounds, in CPU µs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import timeit
import uuid
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.harness.results import keep, machine, shown, spread, table
from gateway import signing
from gateway.access.credentials import AccessRule, Keyring, check
from gateway.access.quotas import Quota, QuotaRules
from gateway.access.throttle import FailureThrottle
from gateway.addressing.path_prefix import rewrite
from gateway.addressing.routing import Router, RoutingConfig
from gateway.addressing.signed_links import signatures
from gateway.http.cookies import strip_cookies
from gateway.signing import Signature
from gateway.table import RouteTable, SandboxRoute
from gateway.upstream.targets import Targets

SANDBOX, PORT = "72ac4884-17d2-4919-8e6a-da9c45ca92bf", 8080
ID = SANDBOX.encode()
NOW, LATER = 1_900_000_000.0, 2_000_000_000
HOST, PUBLIC = b"%b-%d.sandbox.example.com" % (ID, PORT), b"gateway.example.com"
SECRET, TOKEN = b"0123456789abcdef0123456789abcdef", b"x" * 32
SHORT = signing.sign("k", SECRET, SANDBOX, PORT, LATER)
LONG = signing.sign_long("k", SECRET, SANDBOX, PORT, LATER)
BOUND = signing.sign_long("k", SECRET, SANDBOX, PORT, LATER, methods=["GET"], path="/api/files")
COOKIES = b"theme=dark; opensandbox-access-%b-%d=%b-%b; session=0123456789" % (ID, PORT, SHORT.expires, SHORT.value)
HEADERS = b'Content-Type: text/html\r\nContent-Length: 5\r\nCache-Control: no-cache\r\nETag: "0123"\r\n'
MANY = 10_000.0
TABLE_SIZES = (10, 1_000, 100_000)
LOOKED_UP = 4096
"""Sandboxes whose routes are asked for in turn, far apart in the table: one alone would stay in the cache."""

Decision = Callable[[], object]


def routing() -> dict[str, Decision]:
    """Finding the sandbox in a request, by the way it is addressed."""
    router = Router(RoutingConfig(gateway=True, uri=True, wildcard=b"sandbox.example.com"))
    label, target = b"%b-%d" % (ID, PORT), b"/api/files?x=1"
    proxy, uri = b"/v1/sandboxes/%b/proxy/%d%b" % (ID, PORT, target), b"/%b/%d%b" % (ID, PORT, target)
    signed = b"/%b/%d/%b/%b%b" % (ID, PORT, SHORT.expires, SHORT.value, target)
    return {
        "host": lambda: router.route(target, HOST, None),
        "header": lambda: router.route(target, PUBLIC, label),
        "proxy path": lambda: router.route(proxy, PUBLIC, None),
        "uri": lambda: router.route(uri, PUBLIC, None),
        "uri, signed": lambda: router.route(signed, PUBLIC, None),
        "the API": lambda: router.route(b"/v1/sandboxes", PUBLIC, None),
    }


def lookup() -> dict[str, Decision]:
    """Finding the route of a sandbox, by the number of routes there are."""
    return {f"one of {size}": in_table_of(size) for size in TABLE_SIZES}


def in_table_of(size: int) -> Decision:
    """A lookup among so many routes; each asks for the next of the ids, in an order without a pattern."""
    routes, reach = RouteTable(), Targets("127.0.0.1")
    ids = [uuid.uuid4() for _ in range(size)]
    for number in ids:
        routes.put(SandboxRoute(str(number), "uid", reach))
    wanted = random.sample(ids, min(size, LOOKED_UP))
    # Copies, as a request brings one: comparing them with the table's own is part of the lookup.
    following = itertools.cycle([str(number).encode() for number in wanted]).__next__
    return lambda: routes.get(following())


def access() -> dict[str, Decision]:
    """Letting a request in, by what the sandbox asks for and what was sent."""
    keys, rule, throttle = Keyring({b"k": SECRET}), AccessRule(TOKEN), FailureThrottle()

    def ask(rule: AccessRule | None, header: bytes | None, signature: Signature | None) -> Decision:
        return lambda: check(
            rule, keys, ID, PORT, header, signature, NOW, method=b"GET", target=b"/api/files/x", throttle=throttle
        )

    def by_cookie() -> None:
        held = signatures(COOKIES, ID, PORT, secure=False)
        check(rule, keys, ID, PORT, None, None, NOW, method=b"GET", target=b"/x", throttle=throttle, cookies=held)

    return {
        "nothing asked": ask(None, None, None),
        "token": ask(rule, TOKEN, None),
        "short signature": ask(rule, None, SHORT),
        "long signature": ask(rule, None, LONG),
        "long, bound to method and path": ask(rule, None, BOUND),
        "cookie of a signed link": by_cookie,
    }


def limits() -> dict[str, Decision]:
    """Holding a request against the limits of its sandbox."""
    unlimited: Quota | None = None
    rate = Quota(QuotaRules(requests_per_second=MANY, requests_burst=1_000_000), NOW)
    everything = QuotaRules(
        requests_per_second=MANY,
        requests_burst=1_000_000,
        connections=1000,
        bytes_per_second=2**40,
        body_bytes=2**30,
        ports=((80, 80), (8000, 9000)),
        methods=frozenset({b"GET", b"POST"}),
        paths=(b"/static", b"/api"),
    )
    all_of_them = Quota(everything, NOW)
    clock = iter(range(10**12)).__next__

    def admit(quota: Quota) -> Decision:
        return lambda: quota.admit(PORT, b"GET", b"/api/files/x", 0, 5, NOW + clock())

    return {
        "none": lambda: None if unlimited is None else admit(unlimited),
        "rate": admit(rate),
        "every rule": admit(all_of_them),
        "bytes of one read": lambda: all_of_them.spend(65536, NOW + clock()),
    }


def people() -> dict[str, Decision]:
    """What browsers cost beyond that."""
    redirect = HEADERS + b"Location: /login\r\nSet-Cookie: a=1; Path=/\r\n"
    return {
        "cookies without ours": lambda: strip_cookies(b"theme=dark; session=0123456789"),
        "cookies with ours": lambda: strip_cookies(COOKIES),
        "answer under a prefix": lambda: rewrite(HEADERS, b"/sb/8080", PUBLIC),
        "redirect under a prefix": lambda: rewrite(redirect, b"/sb/8080", PUBLIC),
    }


GROUPS: dict[str, Callable[[], dict[str, Decision]]] = {
    "which sandbox": routing,
    "its route": lookup,
    "may it enter": access,
    "within its limits": limits,
    "for people": people,
}


def measure(decision: Decision, rounds: int) -> list[float]:
    """CPU µs per call in each round, less what an empty call costs; waiting for a core does not count."""
    timer, empty = timeit.Timer(decision, timer=process_time), timeit.Timer(lambda: None, timer=process_time)
    count = max(1000, int(0.05 / (timer.timeit(1000) / 1000)))
    return [max(0.0, (timer.timeit(count) - empty.timeit(count)) / count * 1e6) for _ in range(rounds)]


def main() -> None:
    """Measures, prints and keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-keep", action="store_true", help="do not write benchmarks/results/decisions.json")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = machine()
    rows: list[dict[str, Any]] = []
    for group, decisions in GROUPS.items():
        for name, decision in decisions().items():
            rows.append({"decision": group, "case": name, "µs": spread(measure(decision, options.rounds))})
    print(table(["decision", "case", "µs"], [[row["decision"], row["case"], shown(row["µs"], 2)] for row in rows]))
    if not options.no_keep:
        record = {"machine": before, "rounds": options.rounds, "rows": rows}
        print(f"\nkept in {keep('decisions', record).relative_to(Path.cwd())}")


if __name__ == "__main__":
    main()
