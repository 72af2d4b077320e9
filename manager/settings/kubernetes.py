"""The Kubernetes runtime: `[kubernetes]`, `[kubernetes.execd_init_resources]` and `[agent_sandbox]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from manager.settings.quantities import Quantities
from manager.settings.table import Table, option
from manager.settings.values import Lower, OptionalText

PullPolicy = Literal["Always", "IfNotPresent", "Never"]


def _namespace(text: str) -> str:
    if (
        not text
        or len(text) > 63
        or not text.replace("-", "a").isalnum()
        or text != text.lower()
        or "-" in (text[0], text[-1])
    ):
        raise ValueError("must be a Kubernetes namespace: up to 63 lower-case letters, digits and '-'")
    return text


class InitResources(Table):
    """`[kubernetes.execd_init_resources]`"""

    requests: Quantities = option(dict, doc="Resources the container that delivers execd asks for")
    limits: Quantities = option(dict, doc="Resources the container that delivers execd is held to")


class KubernetesSettings(Table):
    """`[kubernetes]`"""

    kubeconfig_path: OptionalText = option(None, doc="kubeconfig file; unset means the pod's own service account")
    insecure_skip_tls_verify: bool = option(False, doc="Whether the API server's certificate is left unchecked")
    namespace: Annotated[str, AfterValidator(_namespace)] = option("opensandbox", doc="Namespace of the sandboxes")
    workload_provider: Annotated[Literal["batchsandbox", "agent-sandbox"], Lower] = option(
        "batchsandbox", doc="Kind of object that stands for a sandbox"
    )
    batchsandbox_template_file: OptionalText = option(None, doc="YAML that is merged below every BatchSandbox we write")
    informer_enabled: bool = option(True, doc="Whether reads come from a cache kept by watches")
    informer_resync_seconds: int = option(
        300, least=1, doc="How often the cache is compared with a full list, in seconds"
    )
    informer_watch_timeout_seconds: int = option(
        60, least=1, doc="How long one watch is kept before it is renewed, in seconds"
    )
    read_qps: float = option(0.0, least=0, doc="Most reads of the API server per second; 0 means no limit")
    read_burst: int = option(0, least=0, doc="Reads that may come at once; 0 means no limit")
    write_qps: float = option(0.0, least=0, doc="Most writes to the API server per second; 0 means no limit")
    write_burst: int = option(0, least=0, doc="Writes that may come at once; 0 means no limit")
    fastpath_endpoint: str = option(
        "fast-sandbox-fastpath.opensandbox.svc:9090", doc="Address of the fast path's service"
    )
    fastpath_timeout_seconds: float = option(
        30.0, least=1, doc="Longest wait for one answer of the fast path, in seconds"
    )
    fastpath_wait_ready_seconds: float = option(30.0, least=1, doc="Longest wait for a fast-path sandbox, in seconds")
    fastpath_resource_pool: str = option("default-pool", doc="Pool the fast path takes sandboxes from")
    template_s3_publish_secret: str = option("sandbox-oss-credentials", doc="Secret used to publish templates")
    sandbox_create_timeout_seconds: float = option(60, least=1, doc="Longest wait for a sandbox to run, in seconds")
    sandbox_create_poll_interval_seconds: float = option(
        1.0, above=0, doc="Pause between looks at a starting sandbox where no watch tells, in seconds"
    )
    pool_acquisition_timeout_seconds: float = option(30, least=1, doc="Longest wait for a pooled sandbox, in seconds")
    execd_init_resources: InitResources = option(InitResources, doc="Resources of the container that delivers execd")
    image_pull_policy: PullPolicy = option("IfNotPresent", doc="When sandbox images are pulled")


class AgentSandboxSettings(Table):
    """`[agent_sandbox]`"""

    template_file: OptionalText = option(None, doc="YAML that is merged below every Sandbox object we write")
    shutdown_policy: Literal["Delete", "Retain"] = option(
        "Delete", doc="What happens to the object when its time is over"
    )
    ingress_enabled: bool = option(True, doc="Whether sandboxes of this provider are routed")
