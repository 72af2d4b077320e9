"""Network policy → egress sidecar: whether it can be enforced here, and the body of the create call. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manager.domain import errors
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.quantities import Limits
from manager.domain.request import PROXY_NEEDS_POLICY
from manager.domain.sandbox import NetworkPolicy, SandboxSpec
from manager.runtime.docker import labels
from manager.runtime.docker.container_defaults import Profile
from manager.runtime.docker.resolvers import ENGINES_OWN, UPSTREAM, Upstreams
from manager.runtime.docker.spec import ARCHIVE_FOLDER, EGRESS_ENV_PREFIX, TRANSPARENT, Wiring, shares
from manager.settings.quantities import whole
from manager.settings.sandboxes import EgressSettings

Json = dict[str, Any]

SSL_INSECURE = EGRESS_ENV_PREFIX + "MITMPROXY_SSL_INSECURE"
REQUESTABLE = frozenset(
    EGRESS_ENV_PREFIX + name
    for name in (
        "LOG_LEVEL",
        "DNS_UPSTREAM_TIMEOUT",
        "MITMPROXY_SSL_INSECURE",
        "MITMPROXY_TRANSPARENT",
        "MITMPROXY_EXTRA_PORTS",
        "DENY_WEBHOOK",
        "METRICS_EXTRA_ATTRS",
        "CREDENTIAL_VAULT_REQUIRE_TLS",
        "CREDENTIAL_VAULT_REQUIRE_SCOPED_MATCH",
        "CREDENTIAL_VAULT_TRUSTED_PROXY_CIDRS",
        "POLICY_FILE",
    )
)
"""Settings of the sidecar that a request may make through its environment."""
UPSTREAM_CA = "/etc/ssl/certs/opensandbox-upstream-extra-ca.pem"
"""Where the sidecar finds the certificate authority of the configured proxy."""
DEFAULT_BRIDGE = "bridge"
"""The Engine's default bridge: the one network without the embedded resolver."""
BEFORE_SIDECAR = f"""\
set -e
printf %s "$1" >/etc/resolv.conf
shift
iptables -w -I OUTPUT -d {ENGINES_OWN} -j DROP
exec "$@"
"""
"""What the sidecar does first elsewhere, each time its container starts: it writes the file that the sandbox shares,
and closes off the Engine's resolver, which answers for names of other containers and is not caught by the sidecar's
redirect: the Engine's own comes before that, and the port it leads to is another than 53."""
_NO_IPV6 = {f"net.ipv6.conf.{scope}.disable_ipv6": "1" for scope in ("all", "default", "lo")}
_NANO = 1_000_000_000
_TRUTHY = frozenset({"1", "true", "yes", "y", "on"})


def sidecar_name(sandbox_id: str) -> str:
    """The name of a sidecar's container."""
    return f"sandbox-egress-{sandbox_id}"


def shared_volume(sandbox_id: str) -> str:
    """The volume that sandbox and sidecar share."""
    return f"opensandbox-runtime-{sandbox_id}"


def check_policy(spec: SandboxSpec, profile: Profile, settings: EgressSettings) -> None:
    """Raises Invalid when a policy is asked for that cannot be enforced here."""
    if spec.network_policy is None:
        if spec.credential_proxy:
            raise errors.Invalid(INVALID_PARAMETER, PROXY_NEEDS_POLICY)
        return
    if profile.network_mode == "host" or profile.network_mode.startswith("container:"):
        message = f"networkPolicy is not supported when docker network_mode={profile.network_mode}."
        raise errors.Invalid(INVALID_PARAMETER, message)
    if settings.image is None:
        raise errors.Invalid(INVALID_PARAMETER, "networkPolicy needs egress.image to be configured.")
    if profile.secure_kind == "gvisor" and (spec.secure_runtime or profile.secure_always):
        message = "networkPolicy: gVisor lacks what the egress sidecar redirects lookups with; use a kata runtime."
        raise errors.Invalid(INVALID_PARAMETER, message)
    if spec.credential_proxy and settings.mode != "dns+nft":
        raise errors.Invalid(INVALID_PARAMETER, "credentialProxy.enabled requires egress.mode = 'dns+nft'.")
    _check_environment(spec, behind_proxy=settings.upstream_proxy.url is not None)


def _check_environment(spec: SandboxSpec, *, behind_proxy: bool) -> None:
    """What a request may tell the sidecar depends on who sees the traffic in the clear."""
    for key in spec.env:
        if key.startswith(EGRESS_ENV_PREFIX) and key not in REQUESTABLE:
            raise errors.Invalid(INVALID_PARAMETER, f"env: '{key}' is not for requests to set.")
    if _asks_for(spec, SSL_INSECURE) and (spec.credential_proxy or behind_proxy):
        reason = "credentialProxy" if spec.credential_proxy else "the configured egress.upstream_proxy"
        raise errors.Invalid(INVALID_PARAMETER, f"env: '{SSL_INSECURE}' cannot be combined with {reason}.")
    if behind_proxy and not spec.credential_proxy and not _asks_for(spec, TRANSPARENT):
        message = "networkPolicy: the configured egress.upstream_proxy needs traffic that the sidecar can read"
        raise errors.Invalid(INVALID_PARAMETER, f"{message}; set credentialProxy.enabled, or env {TRANSPARENT}=true.")


def _asks_for(spec: SandboxSpec, key: str) -> bool:
    return (spec.env.get(key) or "").strip().lower() in _TRUTHY


def policy_json(policy: NetworkPolicy) -> str:
    """The policy as the sidecar reads it."""
    document: Json = {"egress": [{"action": rule.action, "target": rule.target} for rule in policy.egress]}
    if policy.default_action is not None:
        document["defaultAction"] = policy.default_action
    return json.dumps(document)


@dataclass(frozen=True, slots=True)
class Plan:
    """The inputs of a sidecar: its API's token, its name servers, and its image's command."""

    token: str = field(repr=False)
    upstreams: Upstreams
    program: tuple[str, ...] = ()


def program_of(image: Json) -> tuple[str, ...]:
    """The command line of an inspected image."""
    config = image.get("Config") or {}
    return (*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ()))


def sidecar_body(
    spec: SandboxSpec, profile: Profile, settings: EgressSettings, wiring: Wiring, plan: Plan, *, ipv6: bool
) -> Json:
    """The body of the sidecar's create call."""
    mounts = [{"Type": "volume", "Source": shared_volume(spec.id), "Target": ARCHIVE_FOLDER}]
    authority = settings.upstream_proxy.ca_cert_path
    host: Json = {
        "NetworkMode": wiring.mode,
        "CapAdd": ["NET_ADMIN"],
        "Mounts": [*mounts, _read_only(authority, UPSTREAM_CA)] if authority else mounts,
        "PortBindings": wiring.bindings(),
        **sidecar_resources(settings),
    }
    if not ipv6:
        host["Sysctls"] = _NO_IPV6
    if wiring.mode == DEFAULT_BRIDGE:
        host["Dns"] = list(plan.upstreams.addresses)
    return {
        "Image": settings.image,
        **_program(wiring, plan),
        "Env": [f"{key}={value}" for key, value in sidecar_environment(spec, settings, plan).items()],
        "Labels": {**labels.blank(), labels.SIDECAR_FOR: spec.id, labels.INSTANCE: profile.instance},
        "ExposedPorts": wiring.exposed(),
        "HostConfig": host,
    }


def _program(wiring: Wiring, plan: Plan) -> Json:
    if wiring.mode == DEFAULT_BRIDGE:
        return {}
    return {
        "Entrypoint": ["/bin/sh", "-c", BEFORE_SIDECAR, "sh"],
        "Cmd": [plan.upstreams.resolv_conf(), *plan.program],
    }


def sidecar_resources(settings: EgressSettings) -> Json:
    """The sidecar's resource limits and requests; empty where none are configured."""
    limits, requests = (
        Limits(nano_cpus=whole(values, "cpu", _NANO), memory=whole(values, "memory"))
        for values in (settings.limits, settings.requests)
    )
    return {key: amount for key, amount in shares(limits, requests).items() if amount is not None}


def _read_only(source: str, target: str) -> Json:
    # `Mounts`, not `Binds`: for a missing file the latter would create a directory.
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}


def sidecar_environment(spec: SandboxSpec, settings: EgressSettings, plan: Plan) -> Mapping[str, str]:
    """The sidecar's variables: what the request may say, then the configuration, then what follows from both."""
    made = {
        "OPENSANDBOX_EGRESS_RULES": policy_json(spec.network_policy or NetworkPolicy()),
        "OPENSANDBOX_EGRESS_MODE": settings.mode,
        "OPENSANDBOX_EGRESS_TOKEN": plan.token,
        "OPENSANDBOX_EGRESS_SANDBOX_ID": spec.id,
    }
    if settings.otlp_endpoint:
        made["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otlp_endpoint
    asked = {key: value for key, value in spec.env.items() if key in REQUESTABLE and value is not None}
    proxied = {TRANSPARENT: "true"} if spec.credential_proxy else {}
    told = {} if plan.upstreams.told else {UPSTREAM: ",".join(plan.upstreams.addresses)}
    return {**told, **asked, **settings.env, **made, **_upstream(settings), **proxied}


def _upstream(settings: EgressSettings) -> dict[str, str]:
    proxy = settings.upstream_proxy
    if proxy.url is None:
        return {}
    told = {"OPENSANDBOX_EGRESS_UPSTREAM_PROXY": proxy.url.get_secret_value()}
    if proxy.authorization is not None:
        told["OPENSANDBOX_EGRESS_UPSTREAM_PROXY_AUTH"] = proxy.authorization.get_secret_value()
    if proxy.ca_cert_path:
        told["OPENSANDBOX_EGRESS_MITMPROXY_UPSTREAM_EXTRA_CA"] = UPSTREAM_CA
    return told
