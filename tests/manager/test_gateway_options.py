"""Settings become one record of options, which every process of the data plane gets."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from gateway.options import GatewayOptions
from manager.gateway_options import options, worker_setup
from tests.manager.harness import settings_of

CHANGED: dict[str, Any] = {
    "server": {"trusted_proxies": ["10.0.0.0/8"], "proxy_protocol": True, "proxy_needs_key": True, "api_key": "key"},
    "ingress": {"mode": "gateway", "gateway": {"address": "gw.test", "route": {"mode": "uri"}}},
    "gateway": {
        "access_log": True,
        "upstream_host": "upstream",
        "forwarded": True,
        "cors_origins": ["https://app.test"],
        "rewrite_prefix": False,
        "referer_fallback": False,
        "link_cookies": False,
        "limits": {"max_connections": 9},
    },
}


def test_every_option_can_be_configured() -> None:
    """No option of the data plane is forgotten between the settings and the record: each differs when its key does."""
    told, usual = options(settings_of(**CHANGED)), GatewayOptions()
    assert [each.name for each in fields(told) if getattr(told, each.name) == getattr(usual, each.name)] == []


def test_the_defaults_agree() -> None:
    """Settings that say nothing of the data plane make the record's own defaults."""
    assert options(settings_of()) == GatewayOptions()


def test_workers_get_the_same_record() -> None:
    """A worker process serves with the options of the first process."""
    settings = settings_of(**CHANGED)
    assert worker_setup(settings, [("127.0.0.1", 80)]).options == options(settings)
