"""The configuration as one immutable value: attribute path = TOML path, `settings.docker.network_mode`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from manager.settings.aliases import with_both_spellings
from manager.settings.docker import DockerSettings
from manager.settings.gateway import GatewaySettings
from manager.settings.ingress import IngressSettings
from manager.settings.integrations import EventsSettings, OtelSettings, RenewIntentSettings, TenantsSettings
from manager.settings.kubernetes import AgentSandboxSettings, KubernetesSettings
from manager.settings.rules import conflicts
from manager.settings.sandboxes import EgressSettings, RuntimeSettings, SecureRuntimeSettings, StorageSettings
from manager.settings.server import LogSettings, ProxySettings, ServerSettings, StoreSettings
from manager.settings.table import Table, option

CONFLICT = "conflict"
"""Type of the validation error that carries what the rules between keys found."""


class Settings(Table):
    """Everything the server can be told. Build it with `load.load_settings`, in tests from a dict of tables."""

    server: ServerSettings = option(ServerSettings, doc="The HTTP server")
    log: LogSettings = option(LogSettings, doc="Logging")
    runtime: RuntimeSettings = option(doc="Where sandboxes run")
    docker: DockerSettings = option(DockerSettings, doc="The Docker runtime")
    kubernetes: KubernetesSettings = option(KubernetesSettings, doc="The Kubernetes runtime")
    agent_sandbox: AgentSandboxSettings = option(AgentSandboxSettings, doc="The agent-sandbox provider of Kubernetes")
    ingress: IngressSettings = option(IngressSettings, doc="How clients reach sandboxes")
    gateway: GatewaySettings = option(GatewaySettings, doc="The data plane")
    egress: EgressSettings = option(EgressSettings, doc="The sidecar that enforces network policies")
    storage: StorageSettings = option(StorageSettings, doc="What sandboxes may mount")
    secure_runtime: SecureRuntimeSettings = option(SecureRuntimeSettings, doc="Stronger isolation of sandboxes")
    store: StoreSettings = option(StoreSettings, doc="What the server remembers")
    proxy: ProxySettings = option(ProxySettings, doc="Requests through the server")
    renew_intent: RenewIntentSettings = option(RenewIntentSettings, doc="Lifetimes extended by traffic")
    events: EventsSettings = option(EventsSettings, doc="What has happened to sandboxes")
    otel: OtelSettings = option(OtelSettings, doc="Metrics to a collector")
    tenants: TenantsSettings = option(TenantsSettings, doc="Several tenants in one server")

    @property
    def advertised_host(self) -> str | None:
        """The host at which clients reach published ports, where this server is in a container and cannot tell."""
        return self.docker.host_ip

    @model_validator(mode="before")
    @classmethod
    def _spell(cls, data: Any) -> Any:
        return with_both_spellings(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _agree(self) -> Self:
        found = conflicts(self)
        if found:
            raise PydanticCustomError(CONFLICT, "{summary}", {"summary": "; ".join(map(str, found)), "found": found})
        return self
