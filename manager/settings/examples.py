"""The configurations that `init-config --example` writes: what they hold and what they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from manager.settings.docker import DROPPED_CAPABILITIES
from manager.settings.exposure import EXAMPLE_API_KEY

EXECD_IMAGE: Final = "opensandbox/execd:latest"
EGRESS_IMAGE: Final = "opensandbox/egress:latest"


@dataclass(frozen=True, slots=True)
class Example:
    """Introductory lines, and the tables with the values that are written out."""

    intro: tuple[str, ...]
    tables: Mapping[str, Mapping[str, Any]]


_SERVER: Final = {"host": "0.0.0.0", "port": 8080, "api_key": EXAMPLE_API_KEY}
_HARDENING: Final = {
    "drop_capabilities": list(DROPPED_CAPABILITIES),
    "no_new_privileges": True,
    "pids_limit": 4096,
}
_DOCKER_RUNTIME: Final = {"type": "docker", "execd_image": EXECD_IMAGE}
_STORAGE: Final = {"allowed_host_paths": ["/srv/opensandbox"]}
_EGRESS: Final = {"image": EGRESS_IMAGE, "mode": "dns+nft"}

OWN: Final[Mapping[tuple[str, ...], Any]] = {
    ("server", "host"): "127.0.0.1",
    ("server", "api_key"): None,
    ("storage", "allowed_host_paths"): _STORAGE["allowed_host_paths"],
}
"""What `init-config` writes instead of the values of an example; None stands for a new random key."""

EXAMPLES: Final[Mapping[str, Example]] = {
    "docker": Example(
        (
            "Sandboxes on a Docker Engine, reached at ports of its host.",
            "Change api_key. In a container the server needs host_ip, by which clients reach this machine.",
        ),
        {
            "server": _SERVER,
            "log": {"level": "INFO"},
            "runtime": _DOCKER_RUNTIME,
            "docker": {"network_mode": "bridge", **_HARDENING},
            "ingress": {"mode": "direct"},
            "egress": _EGRESS,
            "storage": _STORAGE,
        },
    ),
    "docker-gateway": Example(
        (
            "Sandboxes on a Docker Engine, all reached through this server's one port.",
            "Change api_key, and the addresses to what clients reach this machine by.",
        ),
        {
            "server": _SERVER,
            "log": {"level": "INFO"},
            "runtime": _DOCKER_RUNTIME,
            "docker": {"network_mode": "bridge", **_HARDENING},
            "ingress": {
                "mode": "gateway",
                "gateway": {
                    "address": "localhost:8080",
                    "wildcard": "*.sandbox.localhost:8080",
                    "route": {"mode": "uri"},
                },
            },
            "egress": _EGRESS,
            "storage": _STORAGE,
        },
    ),
    "k8s": Example(
        (
            "Sandboxes on Kubernetes, all reached through this server.",
            "Change api_key, and the address to the wildcard domain that leads here.",
        ),
        {
            "server": _SERVER,
            "log": {"level": "INFO"},
            "runtime": {"type": "kubernetes", "execd_image": EXECD_IMAGE},
            "kubernetes": {
                "kubeconfig_path": "~/.kube/config",
                "namespace": "opensandbox",
                "workload_provider": "batchsandbox",
            },
            "ingress": {
                "mode": "gateway",
                "gateway": {"address": "*.sandbox.example.com", "route": {"mode": "wildcard"}},
            },
            "egress": _EGRESS,
            "storage": _STORAGE,
        },
    ),
}
