"""The two documentation pages this server implements: their examples load, their keys exist, their defaults hold."""

from __future__ import annotations

import re
from operator import attrgetter

import pytest

from manager.settings.model import Settings
from manager.settings.unsupported import refusals
from tests.manager.settings.conftest import Load

CAPABILITIES = (
    "AUDIT_WRITE",
    "MKNOD",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_PTRACE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
)

DOCKER_PAGE = """\
Open ~/.sandbox.toml and check the docker section.
[server]
host = "0.0.0.0"
port = 8080
api_key = "your-secret-api-key"

[log]
level = "INFO"

[runtime]
type = "docker"
execd_image = "opensandbox/execd:latest"

[docker]
network_mode = "bridge"
# Set to host IP or hostname when the server runs inside Docker
host_ip = "host.docker.internal"
drop_capabilities = ["AUDIT_WRITE", "MKNOD", "NET_ADMIN", "NET_RAW",
                     "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE",
                     "SYS_TIME", "SYS_TTY_CONFIG"]
no_new_privileges = true
# Increase for production to avoid thread exhaustion with many sandboxes
pids_limit = 4096

[ingress]
mode = "direct"

[egress]
image = "opensandbox/egress:latest"
mode = "dns+nft"
3

Set the sidecar up:
[egress]
image = "opensandbox/egress:latest"
mode = "dns+nft"   # dns | dns+nft (recommended for strict default-deny)
See the network page.

Choose a secure runtime:
[secure_runtime]
type = "gvisor"          # gvisor | kata-qemu | kata-fc | kata-clh
oci_runtime_name = "runsc"  # must match the runtime name registered in Docker daemon
Then ask for it.
"""
"""The page as it arrives: examples stand between paragraphs without fences."""

_EXAMPLE = re.compile(r"(?:^(?:\[.*|#.*|\w+ = .*| +.*|)\n)+", re.MULTILINE)
EXAMPLES = [found.strip() for found in _EXAMPLE.findall(DOCKER_PAGE) if "[" in found]


def test_the_page_prints_three_examples() -> None:
    """The extraction finds every example, so that none passes by being overlooked."""
    assert [example.splitlines()[0] for example in EXAMPLES] == ["[server]", "[egress]", "[secure_runtime]"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.splitlines()[0])
def test_an_example_loads_as_printed(load: Load, example: str) -> None:
    """A printed example loads and is started with; a fragment needs only the required keys beside it."""
    loaded = load(example, runtime="") if "[runtime]" in example else load(example)

    assert refusals(loaded.settings) == []
    assert not [line for line in loaded.warnings if "is not a setting" in line]


def test_the_whole_example_means_what_it_says(load: Load) -> None:
    """Values of the printed configuration arrive at the paths they are written at."""
    settings = load(EXAMPLES[0], runtime="").settings

    assert settings.server.api_key is not None
    assert settings.server.api_key.get_secret_value() == "your-secret-api-key"
    assert (settings.docker.network_mode, settings.docker.host_ip) == ("bridge", "host.docker.internal")
    assert (settings.docker.drop_capabilities, settings.docker.pids_limit) == (CAPABILITIES, 4096)
    assert (settings.egress.image, settings.egress.mode) == ("opensandbox/egress:latest", "dns+nft")


DEFAULTS = {
    "server.host": "0.0.0.0",
    "server.port": 8080,
    "server.api_key": None,
    "log.level": "INFO",
    "docker.network_mode": "host",
    "docker.api_timeout": 180,
    "docker.host_ip": None,
    "docker.drop_capabilities": CAPABILITIES,
    "docker.no_new_privileges": True,
    "docker.apparmor_profile": None,
    "docker.seccomp_profile": None,
    "docker.pids_limit": 4096,
    "kubernetes.kubeconfig_path": None,
    "kubernetes.namespace": "opensandbox",
    "kubernetes.workload_provider": "batchsandbox",
    "kubernetes.batchsandbox_template_file": None,
    "kubernetes.informer_enabled": True,
    "kubernetes.informer_resync_seconds": 300,
    "kubernetes.informer_watch_timeout_seconds": 60,
    "egress.image": None,
    "egress.mode": "dns",
    "ingress.mode": "direct",
    "ingress.gateway.address": None,
    "ingress.gateway.route.mode": "wildcard",
    "storage.allowed_host_paths": (),
    "agent_sandbox.template_file": None,
    "agent_sandbox.shutdown_policy": "Delete",
    "agent_sandbox.ingress_enabled": True,
    "runtime.pending_failure_ttl_seconds": 3600,
    "secure_runtime.type": "",
    "server.trusted_proxies": (),
    "server.allow_sandbox_callers": False,
    "server.shutdown_grace_seconds": 30,
    "gateway.access_log": False,
    "store.path": "~/.opensandbox/gateway.db",
}
"""Where the pages disagree the Docker page wins; an empty string and "not set" are the same."""


@pytest.mark.parametrize("path", DEFAULTS)
def test_a_default_is_the_documented_one(path: str) -> None:
    """Every key of the pages exists and has its documented default."""
    settings = Settings.model_validate({"runtime": {"type": "docker", "execd_image": "execd"}})

    assert attrgetter(path)(settings) == DEFAULTS[path]
