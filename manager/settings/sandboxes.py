"""What sandboxes are made of, whatever the runtime: `[runtime]`, `[egress]`, `[storage]`, `[secure_runtime]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from manager.settings.quantities import Quantities
from manager.settings.table import Table, option
from manager.settings.values import Image, Lower, OptionalImage, OptionalSecret, OptionalText, OrNone

SecureRuntimeType = Literal["", "gvisor", "kata", "kata-qemu", "kata-fc", "kata-clh", "firecracker"]


class RuntimeSettings(Table):
    """`[runtime]`"""

    type: Annotated[Literal["docker", "kubernetes"], Lower] = option(doc="Where sandboxes run; required")
    execd_image: Image = option(
        allowed='an image reference such as "opensandbox/execd:latest"',
        doc="Image that holds execd, the agent inside every sandbox; required",
    )
    execd_run_as_init: bool = option(False, doc="Whether execd runs as the first process of a sandbox")
    pending_failure_ttl_seconds: float = option(
        3600,
        least=0,
        doc="How long a failed creation stays visible to its caller, in seconds; PENDING_FAILURE_TTL overrides it",
    )


class UpstreamProxySettings(Table):
    """`[egress.upstream_proxy]`"""

    url: OptionalSecret = option(
        None,
        secret=True,
        allowed="http(s)://host[:port]",
        doc="Proxy through which the egress sidecar reaches the world",
    )
    authorization: OptionalSecret = option(None, secret=True, doc="Credential sent to that proxy")
    ca_cert_path: OptionalText = option(None, doc="Certificate authority of that proxy, a file on the Engine's host")
    ca_secret_name: OptionalText = option(None, doc="Certificate authority of that proxy, a Kubernetes secret")


def _url_with_host(value: str | None) -> str | None:
    if value is not None and (not value.startswith(("http://", "https://")) or not value.split("://", 1)[1].strip("/")):
        raise ValueError('must be a URL such as "http://collector:4318"')
    return value


OURS_TO_SET = frozenset(
    f"OPENSANDBOX_EGRESS_{name}" for name in ("RULES", "MODE", "TOKEN", "SANDBOX_ID", "MITMPROXY_TRANSPARENT")
)
"""Variables of the sidecar that follow from the request and from other keys."""


def _sidecar_env(env: dict[str, str]) -> dict[str, str]:
    for name in env:
        if name in OURS_TO_SET or not name or "=" in name:
            raise ValueError(f"{name or 'a variable without a name'} is not for the configuration to set")
    return env


class EgressSettings(Table):
    """`[egress]`"""

    image: OptionalImage = option(None, doc="Image of the egress sidecar; needed by requests with a networkPolicy")
    mode: Literal["dns", "dns+nft"] = option(
        "dns",
        doc='How a policy is enforced: by name lookups, or also by packet filter ("dns+nft", strict default deny)',
    )
    disable_ipv6: bool = option(True, doc="Whether IPv6 is off in the network namespace a policy is enforced in")
    otlp_endpoint: Annotated[str | None, OrNone, AfterValidator(_url_with_host)] = option(
        None, doc="Where the sidecar sends its metrics"
    )
    env: Annotated[dict[str, str], AfterValidator(_sidecar_env)] = option(
        dict,
        secret=True,
        doc="Environment variables of the sidecar, such as OPENSANDBOX_EGRESS_DNS_UPSTREAM, which names other name "
        "servers than docker.dns; a request cannot override them",
    )
    readiness_timeout_seconds: float = option(30.0, above=0, doc="Longest wait for the sidecar, in seconds")
    requests: Quantities = option(
        dict, doc="Resources the sidecar asks for; with Docker its weight when cpu is scarce, and memory left to it"
    )
    limits: Quantities = option(dict, doc="Resources the sidecar is held to; with Docker cpu and memory")
    upstream_proxy: UpstreamProxySettings = option(UpstreamProxySettings, doc="Proxy between the sidecar and the world")


def _absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    for path in paths:
        if not path.startswith("/"):
            raise ValueError(f'must be absolute paths; "{path}" is not one')
    return paths


def _absolute_one(path: str) -> str:
    return _absolute((path,))[0]


class StorageSettings(Table):
    """`[storage]`"""

    allowed_host_paths: Annotated[tuple[str, ...], AfterValidator(_absolute)] = option(
        (),
        allowed='a list of absolute paths such as ["/srv/data"]',
        doc="Directories of the Engine's host below which volumes may be mounted; empty allows all of them but the "
        "few that are never mounted (SECURITY.md), which is not for production; without an API key of its own the "
        "server then mounts none",
    )
    volume_default_size: str = option("1Gi", doc="Size of a volume claim that names none (Kubernetes)")
    ossfs_mount_root: Annotated[str, AfterValidator(_absolute_one)] = option(
        "/mnt/ossfs", doc="Directory of this machine below which object-storage volumes are mounted"
    )


class SecureRuntimeSettings(Table):
    """`[secure_runtime]`"""

    type: Annotated[SecureRuntimeType, Lower] = option("", doc="Kind of secure runtime; empty means none")
    oci_runtime_name: OptionalText = option(None, doc="Name under which it is registered with the Docker Engine")
    docker_runtime: OptionalText = option(
        None,
        shown="secure_runtime.oci_runtime_name",
        doc="Another spelling of secure_runtime.oci_runtime_name that puts every sandbox into it, not only "
        "those created with secureRuntime = true",
    )
    k8s_runtime_class: OptionalText = option(None, doc="RuntimeClass that stands for it on Kubernetes")
