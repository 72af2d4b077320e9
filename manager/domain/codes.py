"""Wire codes that carry the name of the runtime, which released clients match on. The only place such words appear."""

from __future__ import annotations


class Codes:
    """The codes of one runtime, built once from its name (`docker` → `DOCKER::…`)."""

    __slots__ = (
        "endpoint_unavailable",
        "expired",
        "internal",
        "invalid_entrypoint",
        "invalid_expiration",
        "invalid_port",
        "not_found",
        "not_paused",
        "not_running",
    )

    def __init__(self, runtime_name: str) -> None:
        prefix = runtime_name.upper()
        self.not_found = f"{prefix}::SANDBOX_NOT_FOUND"
        self.expired = f"{prefix}::SANDBOX_EXPIRED"
        self.not_running = f"{prefix}::SANDBOX_NOT_RUNNING"
        self.not_paused = f"{prefix}::SANDBOX_NOT_PAUSED"
        self.internal = f"{prefix}::SANDBOX_START_FAILED"
        self.invalid_entrypoint = f"{prefix}::INVALID_ENTRYPOINT"
        self.endpoint_unavailable = f"{prefix}::NETWORK_MODE_ENDPOINT_UNAVAILABLE"
        self.invalid_port = f"{prefix}::INVALID_PORT"
        self.invalid_expiration = f"{prefix}::INVALID_EXPIRATION"


INVALID_PARAMETER = "SANDBOX::INVALID_PARAMETER"
INVALID_METADATA_LABEL = "SANDBOX::INVALID_METADATA_LABEL"
INVALID_METADATA_FORMAT = "INVALID_METADATA_FORMAT"
API_NOT_SUPPORTED = "SANDBOX::API_NOT_SUPPORTED"
UNSUPPORTED_POOL_REF = "SANDBOX::UNSUPPORTED_POOL_REF"
DRAINING = "SERVER::STOPPING"
STORE_UNAVAILABLE = "SERVER::STORE_UNAVAILABLE"
