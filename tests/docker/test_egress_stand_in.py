"""The stand-in for the egress sidecar by itself: what other tests lean on, as the real one does it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.docker.outside import OTHER, TARGET, THIRD, Outside
from tests.docker.test_egress import egress_image
from tests.docker.test_egress_whole import CREDENTIALS, LOOK_UP, VISIT, outside
from tests.server_process import wait_until

pytestmark = pytest.mark.timeout(60)
TOKEN = "t0ken"
PATIENCE = 15.0
TRANSPARENT = {"MITMPROXY_TRANSPARENT": "true"}
WRITE = """
import sys, urllib.request
asked = urllib.request.Request("http://127.0.0.1:18080" + sys.argv[2], sys.argv[3].encode(), method=sys.argv[1])
asked.add_header("OPENSANDBOX-EGRESS-AUTH", sys.argv[4])
try:
    print(urllib.request.urlopen(asked).status)
except urllib.error.HTTPError as refused:
    print(refused.code, refused.read().decode())
"""
MODE_OF_AUTHORITY = "import os; print(oct(os.stat('/opt/opensandbox/mitmproxy-ca-cert.pem').st_mode & 0o777))"
KILL = "import os; [os.kill(int(p), 9) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]"

__all__ = ["egress_image", "outside"]


class Sidecar:
    """One container of it, on the default bridge unless told, with a second in its network as the sandbox."""

    def __init__(self, engine: docker.APIClient, image: str, inside: str, outside: Outside) -> None:
        self.engine, self.image, self.inside, self.outside = engine, image, inside, outside
        self.made: list[str] = []
        self.admin = True
        """Whether it may filter what leaves its network."""
        self.where: dict[str, Any] = {}
        """Its network and what the Engine is told of it."""

    def run(self, policy: Any = None, *, token: str = TOKEN, **env: str) -> Sidecar:
        """Starts both."""
        told = {"DNS_UPSTREAM": self.outside.resolver, "TOKEN": token, "MODE": "dns+nft", **env}
        if policy is not None:
            told["RULES"] = json.dumps(policy)
        variables = {key if key.startswith("STAND_IN") else f"OPENSANDBOX_EGRESS_{key}": told[key] for key in told}
        host = self.engine.create_host_config(cap_add=["NET_ADMIN"] if self.admin else [], **self.where)
        self.start(self.image, None, host, variables)
        shared = self.engine.create_host_config(network_mode=f"container:{self.made[0]}", cap_drop=["NET_ADMIN"])
        self.start(self.inside, ["sleep", "600"], shared, {})
        return self

    def start(self, image: str, command: Any, host: Any, env: dict[str, str]) -> str:
        """The id of one more container."""
        made = self.engine.create_container(image, command, host_config=host, environment=env)
        self.made.append(made["Id"])
        self.engine.start(made)
        return str(made["Id"])

    def close(self) -> None:
        """Removes both."""
        for container in reversed(self.made):
            self.engine.remove_container(container, force=True)

    @property
    def state(self) -> dict[str, Any]:
        """What the Engine says of it."""
        return dict(self.engine.inspect_container(self.made[0])["State"])

    def ask(self, method: str, path: str, body: Any = None, token: str | None = TOKEN) -> tuple[int, str]:
        """One request from this host, so not from loopback."""
        networks = self.engine.inspect_container(self.made[0])["NetworkSettings"]["Networks"]
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        url = f"http://{next(iter(networks.values()))['IPAddress']}:18080{path}"
        headers = {} if token is None else {"OPENSANDBOX-EGRESS-AUTH": token}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    def health(self) -> int:
        """The status of its health, 0 while nothing listens."""
        try:
            return self.ask("GET", "/healthz", token=None)[0]
        except OSError:
            return 0

    def ready(self) -> Sidecar:
        """Once it says so."""
        wait_until(lambda: self.health() == 200, PATIENCE, "the sidecar's readiness")
        return self

    def execute(self, script: str, *arguments: str, sidecar: bool = False) -> str:
        """What a program in the sandbox, or in the sidecar, prints."""
        made = self.engine.exec_create(
            self.made[0 if sidecar else 1], ["python3", "-c", script, *arguments], stderr=False
        )
        return self.engine.exec_start(made["Id"]).decode().strip()

    def write(self, method: str, path: str, body: Any, token: str = TOKEN) -> str:
        """One request from loopback, as through execd: status and refusal."""
        return self.execute(WRITE, method, path, json.dumps(body), token)

    def visit(self, host: str, port: int = 80) -> bool:
        """Whether the sandbox gets through."""
        return self.execute(VISIT, f"http://{host}:{port}/") != ""

    def look_up(self, name: str, server: str = "192.0.2.1") -> str:
        """The code of an answer; whichever server is asked, it is the sidecar that hears it."""
        return self.execute(LOOK_UP, server, "53", name)

    def listed(self, name: str) -> str:
        """A set of the packet filter."""
        script = "import os, sys; os.execvp('nft', ['nft', 'list', 'set', 'inet', 'opensandbox', sys.argv[1]])"
        return self.execute(script, name, sidecar=True)


@pytest.fixture
def sidecar(
    engine: docker.APIClient, images: tuple[str, str], egress_image: str, outside: Outside
) -> Iterator[Sidecar]:
    """Not started yet."""
    made = Sidecar(engine, egress_image, images[0], outside)
    yield made
    made.close()


def allow(*targets: str) -> dict[str, Any]:
    """A policy that allows these."""
    return {"defaultAction": "deny", "egress": [{"action": "allow", "target": target} for target in targets]}


def test_without_the_right_to_filter_it_never_gets_ready(sidecar: Sidecar) -> None:
    """Its worker ends and is started again; the container stays up meanwhile."""
    sidecar.admin = False
    sidecar.run()

    def tries() -> int:
        return bytes(sidecar.engine.logs(sidecar.made[0])).count(b"egress: OSError")

    wait_until(lambda: tries() >= 2, PATIENCE, "a second attempt")
    assert (sidecar.state["Running"], sidecar.health()) == (True, 0)


def test_it_answers_only_when_its_rules_stand(sidecar: Sidecar) -> None:
    """Nothing is told to deny everything; a transparent proxy that is not ready is 503."""
    sidecar.run(STAND_IN_MITM_SECONDS="4", **TRANSPARENT)
    wait_until(lambda: sidecar.health() != 0, PATIENCE, "an answer")
    assert sidecar.ask("GET", "/healthz", token=None) == (503, "mitmproxy not ready")
    assert sidecar.execute(MODE_OF_AUTHORITY, sidecar=True) == ""
    name = sidecar.outside.name(TARGET, "never.test")
    assert sidecar.look_up(name) == "code 3"
    assert not sidecar.visit(sidecar.outside.address(TARGET))
    sidecar.ready()
    assert sidecar.execute(MODE_OF_AUTHORITY, sidecar=True) == "0o644"


def test_a_look_up_opens_its_address_for_its_time_and_a_minute(sidecar: Sidecar) -> None:
    """Between one minute and six; every write of the policy closes it again."""
    sidecar.run(allow("*.allowed.test")).ready()
    address = sidecar.outside.address(TARGET)
    for ttl, seconds in ((5, "65s"), (9999, "360s")):
        assert sidecar.visit(sidecar.outside.name(TARGET, f"ttl-{ttl}.allowed.test"))
        spelled = {"65s": "1m5s", "360s": "6m"}[seconds]
        assert f"{address} timeout {spelled} " in sidecar.listed("dyn_allow_v4").replace("\n", " ")
        assert sidecar.ask("PATCH", "/policy", [{"action": "deny", "target": "x.test"}])[0] == 200
        assert not sidecar.visit(address)


def test_what_is_denied_and_secure_look_ups_come_before_what_is_allowed(sidecar: Sidecar) -> None:
    """Port 853 is closed even to allowed addresses, a denied address even to allowed names; silence, no refusal."""
    target, other = (sidecar.outside.address(last) for last in (TARGET, OTHER))
    rules = [{"action": "allow", "target": f"{target}/30"}, {"action": "deny", "target": other}]
    sidecar.run({"egress": [*rules, *allow("*.allowed.test")["egress"]]}).ready()
    seen = [sidecar.visit(target), sidecar.visit(target, 853), sidecar.visit(other)]
    seen.append(sidecar.visit(sidecar.outside.name(OTHER, "allowed.test")))
    assert seen == [sidecar.outside.address(TARGET) != "", False, False, False]
    began = time.monotonic()
    sidecar.visit(other)
    assert time.monotonic() - began > 1.4  # as long as the client waits


def test_mode_dns_looks_at_names_only(sidecar: Sidecar) -> None:
    """An address gets through; a wide allow before a deny hides it."""
    rules = [{"action": "allow", "target": "*.a.test"}, {"action": "deny", "target": "b.a.test"}]
    sidecar.run({"egress": rules}, MODE="dns").ready()
    assert sidecar.visit(sidecar.outside.address(THIRD))
    assert [sidecar.look_up(name) for name in ("1-1-1-1.a.test", "b.a.test", "a.test", "localhost")] == [
        "code 0", "code 3", "code 3", "code 3",
    ]  # fmt: skip


def test_the_policy_api(sidecar: Sidecar) -> None:
    """Statuses, spelling and order as the real one has them."""
    sidecar.run().ready()
    assert sidecar.ask("GET", "/policy", token="other") == (401, "unauthorized\n")
    shown = json.loads(sidecar.ask("GET", "/policy")[1])
    assert shown == {
        "status": "ok",
        "mode": "deny_all",
        "enforcementMode": "dns+nft",
        "policy": {"defaultAction": "deny", "egress": None},
    }
    assert json.loads(sidecar.ask("PUT", "/policy", allow("a.test", "b.test"))[1]).keys() == {
        "status",
        "mode",
        "enforcementMode",
    }
    sidecar.ask("PATCH", "/policy", [{"action": "DENY", "target": " B.test "}, {"target": "c.test"}])
    rules = json.loads(sidecar.ask("GET", "/policy")[1])["policy"]["egress"]
    assert [f"{rule['action']} {rule['target']}" for rule in rules] == ["deny B.test", "deny c.test", "allow a.test"]
    assert "reason" in sidecar.ask("DELETE", "/policy", ["nobody.test"])[1]
    wrong = [("PATCH", []), ("PATCH", {}), ("DELETE", []), ("PUT", {"egress": [{"action": "x", "target": "y"}]})]
    assert {sidecar.ask(method, "/policy", body)[0] for method, body in wrong} == {400}
    assert "reason" in sidecar.ask("POST", "/policy", b"")[1]
    assert [sidecar.ask(method, path)[0] for method, path in (("OPTIONS", "/policy"), ("GET", "/policy/"))] == [
        405,
        404,
    ]


def test_the_vault_refuses_in_order(sidecar: Sidecar) -> None:
    """Token, transparent proxy, peer, body, then what is there; values are never told."""
    sidecar.run(allow("*.allowed.test"), **TRANSPARENT).ready()
    vault = "/credential-vault"
    assert sidecar.ask("POST", vault, b"{", token="other")[0] == 401
    assert sidecar.ask("POST", vault, b"{")[0] == 426
    assert sidecar.write("POST", vault, {"unknown": 1}).startswith("400")
    assert sidecar.write("PATCH", vault, {}).startswith("404")
    uncovered = json.loads(json.dumps(CREDENTIALS).replace("api.allowed.test", "api.denied.test"))
    assert sidecar.write("POST", vault, uncovered).startswith("400 credential vault policy validation")
    for kind in (
        {"type": "apiKey", "name": "Host", "credential": "token"},
        {"type": "customHeaders", "headers": [{"name": "Content-Length", "credential": "token"}]},
    ):
        reserved = {**CREDENTIALS, "bindings": [{**CREDENTIALS["bindings"][0], "auth": kind}]}
        assert "cannot be injected" in sidecar.write("POST", vault, reserved)
    assert sidecar.write("POST", vault, CREDENTIALS) == "201"
    assert sidecar.write("POST", vault, CREDENTIALS).startswith("409")
    assert sidecar.write("PATCH", vault, {"expectedRevision": 7}).startswith("409")
    status, shown = sidecar.ask("GET", vault)
    assert (status, "s3cret" in shown) == (200, False)
    assert sidecar.ask("PUT", "/policy", {})[0] == 400  # it would uncover a binding
    assert sidecar.ask("GET", f"{vault}/_active", token=None)[0] == 403
    assert sidecar.write("DELETE", vault, None) == "204"


@pytest.mark.parametrize("lacks", [{"token": ""}, {"MITMPROXY_TRANSPARENT": "no"}, {"MITMPROXY_SSL_INSECURE": "1"}])
def test_a_vault_needs_token_and_proxy(sidecar: Sidecar, lacks: dict[str, str]) -> None:
    """412, before anybody asks where the connection comes from."""
    sidecar.run(**{**TRANSPARENT, **lacks}).ready()
    assert sidecar.ask("POST", "/credential-vault", CREDENTIALS)[0] == 412


@pytest.mark.parametrize("kept", [{}, {"POLICY_FILE": "/tmp/policy.json"}], ids=["in memory", "in a file"])
def test_what_a_restart_of_the_worker_leaves(sidecar: Sidecar, kept: dict[str, str]) -> None:
    """The policy it was started with, or the file; names are filtered again."""
    sidecar.run(allow("*.first.test"), **kept).ready()
    assert sidecar.ask("PUT", "/policy", allow("*.second.test"))[0] == 200
    sidecar.execute(KILL, sidecar=True)
    sidecar.ready()
    reached = [sidecar.visit(sidecar.outside.name(TARGET, domain)) for domain in ("first.test", "second.test")]
    assert reached == [not kept, bool(kept)]


def test_it_ends_in_order(sidecar: Sidecar, engine: docker.APIClient) -> None:
    """With code 0."""
    sidecar.run().ready()
    engine.stop(sidecar.made[0], timeout=10)
    assert sidecar.state["ExitCode"] == 0


def test_untold_on_a_network_that_was_made_it_asks_in_a_circle(sidecar: Sidecar, engine: docker.APIClient) -> None:
    """The Engine's own resolver answers for neighbours past the policy, and sends the rest back to where it is from."""
    network = f"circle-{uuid.uuid4().hex[:8]}"
    engine.create_network(network, driver="bridge", check_duplicate=True)
    try:
        sidecar.where = {"network_mode": network, "dns": [sidecar.outside.resolver]}
        sidecar.run(allow("*.allowed.test"), DNS_UPSTREAM="", MODE="dns").ready()
        neighbour = sidecar.start(sidecar.inside, ["sleep", "600"], engine.create_host_config(network_mode=network), {})
        assert sidecar.look_up(neighbour[:12], "127.0.0.11") == "code 0"
        assert sidecar.look_up("other.test", "127.0.0.11") == "code 3"
        name = sidecar.outside.name(TARGET, f"{uuid.uuid4().hex}.allowed.test")
        assert not sidecar.visit(name)
        assert name not in sidecar.outside.questions()
    finally:
        sidecar.close()
        sidecar.made.clear()
        engine.remove_network(network)
