"""What a network policy becomes as a sidecar: pure, so every setting is checked without an Engine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from manager.domain.sandbox import NetworkPolicy, NetworkRule, SandboxSpec
from manager.runtime.docker.container_defaults import Profile
from manager.runtime.docker.resolvers import Upstreams
from manager.runtime.docker.sidecar import BEFORE_SIDECAR, UPSTREAM_CA, Plan, sidecar_body
from manager.runtime.docker.spec import TRANSPARENT, Extras, Wiring, environment
from manager.settings.sandboxes import EgressSettings

PROFILE = Profile(instance="i", network_mode="bridge", publish_on=None, ports=range(2), drop=("NET_RAW",))
UPSTREAMS = Upstreams(("10.0.0.2", "10.0.0.3"), "docker.dns")
PLAN = Plan("t0ken", UPSTREAMS, ("/supervisor", "--here"))
WIRING = Wiring("bridge", {18080: ("127.0.0.1", "40001")})
LOG_LEVEL = "OPENSANDBOX_EGRESS_LOG_LEVEL"
POLICY = NetworkPolicy("deny", (NetworkRule("allow", "*.example.org"),))
PROXY = {"url": "http://proxy:3128", "authorization": "Basic eDp5", "ca_cert_path": "/etc/proxy-ca.pem"}


def spec(**changes: Any) -> SandboxSpec:
    """A sandbox with a policy."""
    fields: dict[str, Any] = {"id": "s1", "created_at": datetime(2026, 1, 1, tzinfo=UTC), "expires_at": None}
    return SandboxSpec(**{**fields, "network_policy": POLICY, **changes})


def body(
    asked: SandboxSpec, *, ipv6: bool = False, wiring: Wiring = WIRING, plan: Plan = PLAN, **settings: Any
) -> dict[str, Any]:
    """The sidecar's create call."""
    made = EgressSettings.model_validate({"image": "egress:1", **settings})
    return sidecar_body(asked, PROFILE, made, wiring, plan, ipv6=ipv6)


def variables(made: dict[str, Any]) -> dict[str, str]:
    """The environment of a container."""
    return dict(entry.split("=", 1) for entry in made["Env"])


def test_the_sidecar_knows_policy_mode_token_and_sandbox() -> None:
    """The policy as JSON in the spelling of the wire."""
    told = variables(body(spec(), mode="dns+nft"))
    assert json.loads(told.pop("OPENSANDBOX_EGRESS_RULES")) == {
        "defaultAction": "deny",
        "egress": [{"action": "allow", "target": "*.example.org"}],
    }
    assert told == {
        "OPENSANDBOX_EGRESS_MODE": "dns+nft",
        "OPENSANDBOX_EGRESS_TOKEN": "t0ken",
        "OPENSANDBOX_EGRESS_SANDBOX_ID": "s1",
        "OPENSANDBOX_EGRESS_DNS_UPSTREAM": "10.0.0.2,10.0.0.3",
    }


def test_on_the_default_bridge_the_engine_writes_the_name_servers_down() -> None:
    """It puts no resolver of its own there, so the image's own program runs as it is."""
    made = body(spec())
    assert made["HostConfig"]["Dns"] == ["10.0.0.2", "10.0.0.3"]
    assert not {"Entrypoint", "Cmd"} & made.keys()


def test_elsewhere_the_resolver_of_the_engine_is_closed_off_before_the_sidecar_runs() -> None:
    """At every start of the container, from its own command; the Engine would take Dns for its resolver's upstreams."""
    searching = Plan("t0ken", Upstreams(("10.0.0.2",), "x", search=("search corp.test",)), PLAN.program)
    made = body(spec(), wiring=Wiring("opensandbox"), plan=searching)
    assert made["Entrypoint"] == ["/bin/sh", "-c", BEFORE_SIDECAR, "sh"]
    assert made["Cmd"] == ["nameserver 10.0.0.2\nsearch corp.test\n", "/supervisor", "--here"]
    assert "Dns" not in made["HostConfig"]


def test_variables_of_the_configuration() -> None:
    """Below what is ours to set and above the request; name servers that its operator has told are not told again."""
    told = Plan("t0ken", Upstreams(("10.9.9.9",), "env", told=True))
    env = {LOG_LEVEL: "warn", "OPENSANDBOX_EGRESS_DNS_UPSTREAM": "10.9.9.9"}
    shown = variables(body(spec(env={LOG_LEVEL: "debug"}), plan=told, env=env))
    assert (shown[LOG_LEVEL], shown["OPENSANDBOX_EGRESS_DNS_UPSTREAM"]) == ("warn", "10.9.9.9")
    assert "OPENSANDBOX_EGRESS_DNS_UPSTREAM" not in variables(body(spec(), plan=told))


def test_only_the_sidecar_may_change_the_network() -> None:
    """NET_ADMIN and nothing else, ports published where told, IPv6 off unless it cannot be."""
    host = body(spec())["HostConfig"]
    assert host["CapAdd"] == ["NET_ADMIN"]
    assert host["PortBindings"] == {"18080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40001"}]}
    assert set(host["Sysctls"]) == {f"net.ipv6.conf.{scope}.disable_ipv6" for scope in ("all", "default", "lo")}
    assert "Sysctls" not in body(spec(), ipv6=True)["HostConfig"]


def test_settings_of_the_request_go_to_the_sidecar_only() -> None:
    """Null means unset, and what is ours cannot be overruled; the sandbox sees none of it."""
    asked = spec(env={LOG_LEVEL: "debug", "OPENSANDBOX_EGRESS_DENY_WEBHOOK": None, "A": "b"})
    told = variables(body(asked))
    assert told[LOG_LEVEL] == "debug"
    assert not {"OPENSANDBOX_EGRESS_DENY_WEBHOOK", "A"} & told.keys()
    assert LOG_LEVEL not in str(environment(asked, PROFILE, Extras("img", Wiring("container:x"))))


def test_the_credential_proxy_is_told_to_both_sides() -> None:
    """Sandbox and sidecar must agree on it, so a request cannot switch one of them off."""
    asked = spec(credential_proxy=True, env={TRANSPARENT: "false"})
    inside = environment(asked, PROFILE, Extras("img", Wiring("container:x")))
    assert variables(body(asked, mode="dns+nft"))[TRANSPARENT] == "true"
    assert f"{TRANSPARENT}=true" in inside


def test_transparency_without_credentials_is_told_to_both_sides_too() -> None:
    """The one setting of the sidecar that the sandbox's start script has to know."""
    asked = spec(env={TRANSPARENT: "1"})
    assert variables(body(asked))[TRANSPARENT] == "1"
    assert f"{TRANSPARENT}=1" in environment(asked, PROFILE, Extras("img", Wiring("container:x")))


def test_the_upstream_proxy_with_its_credential_and_authority() -> None:
    """[egress.upstream_proxy] arrives whole; the certificate is mounted read-only."""
    made = body(spec(credential_proxy=True), mode="dns+nft", upstream_proxy=PROXY)
    told = variables(made)
    assert told["OPENSANDBOX_EGRESS_UPSTREAM_PROXY"] == "http://proxy:3128"
    assert told["OPENSANDBOX_EGRESS_UPSTREAM_PROXY_AUTH"] == "Basic eDp5"
    assert told["OPENSANDBOX_EGRESS_MITMPROXY_UPSTREAM_EXTRA_CA"] == UPSTREAM_CA
    mount = {"Type": "bind", "Source": "/etc/proxy-ca.pem", "Target": UPSTREAM_CA, "ReadOnly": True}
    assert mount in made["HostConfig"]["Mounts"]


def test_resources_of_the_sidecar() -> None:
    """Limits hold it, requests are its share when others want all; what is not said is not asked of the Engine."""
    host = body(spec(), limits={"cpu": "0.5", "memory": "64Mi"}, requests={"cpu": "250m", "memory": "32M"})[
        "HostConfig"
    ]
    assert (host["NanoCpus"], host["Memory"]) == (500_000_000, 64 * 1024**2)
    assert (host["CpuShares"], host["MemoryReservation"]) == (256, 32_000_000)
    assert not {"NanoCpus", "Memory", "CpuShares", "MemoryReservation"} & body(spec())["HostConfig"].keys()


def test_where_metrics_of_the_sidecar_go() -> None:
    """egress.otlp_endpoint, in the name that exporters read."""
    assert variables(body(spec(), otlp_endpoint="http://c:4318"))["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://c:4318"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in variables(body(spec()))
