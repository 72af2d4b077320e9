"""The servers of the catalogue: what each is configured with beside what all have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.server_process import SANDBOX_IMAGE, free_port

Tables = dict[str, dict[str, Any]]
ELSEWHERE = "127.0.0.2"
"""An address of this machine's that no server takes for the machine it runs on."""
KEY, LOOKING_KEY, NARROW_KEY = "key-of-the-owner", "key-that-only-looks", "key-that-sees-its-own"
PAGE = "https://console.example"
GATEWAY: Tables = {"ingress": {"mode": "gateway", "gateway": {"address": "gw.test:80", "route": {"mode": "header"}}}}
MOST_SECONDS = 86400
EGRESS_IMAGE = "opensandbox-test/egress:2"
SILENT = "silent.sock"
NEVER_READY = frozenset({"alone", "unheard", "starting"})
"""Servers whose Engine does not answer, or not as it should."""


def variants(folder: Path) -> dict[str, Tables]:
    """Tables of settings by the name of the server."""
    (folder / "a-file").write_text("")
    return {
        "gateway": {
            **GATEWAY,
            "server": {"max_sandbox_timeout_seconds": MOST_SECONDS, "trusted_proxies": ["127.0.0.1"]},
        },
        "direct": {"runtime": {"pending_failure_ttl_seconds": 3600}},
        "host": {"docker": {"network_mode": "host"}},
        "isolating": {**GATEWAY, "docker": {"allow_isolation": True}},
        "missing-network": {"docker": {"network_mode": "there-is-no-such-network"}},
        "keyed": {
            "server": {
                "api_key": KEY,
                "api_keys": [
                    {"name": "looking", "key": LOOKING_KEY, "scope": "read"},
                    {"name": "narrow", "key": NARROW_KEY, "scope": "own"},
                ],
                "cors_origins": [PAGE],
            }
        },
        "guessed": {"server": {"api_key": KEY}},
        "small": {"server": {"max_sandboxes": 1, "thread_pool_size": 2}},
        "policed": {**GATEWAY, "egress": {"image": EGRESS_IMAGE, "mode": "dns+nft"}},
        "alone": {"docker": {"host": f"unix://{folder}/nobody.sock"}},
        "unheard": {"docker": {"host": f"unix://{folder}/{SILENT}", "api_timeout": 1}},
        "elsewhere": {"docker": {"host": f"tcp://{ELSEWHERE}:{free_port(host=ELSEWHERE)}"}},
        "impatient": {"docker": {"pull_limit": 1.0}},
        "without-execd": {"runtime": {"execd_image": SANDBOX_IMAGE}},
        "starting": {},
        "rootless": {"storage": {"ossfs_mount_root": str(folder / "a-file")}},
        "stopping": {},
    }
