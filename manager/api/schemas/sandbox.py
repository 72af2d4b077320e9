"""Sandboxes as answers show them, and the smaller requests about them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from manager.api.schemas.base import Request, Timestamp, Wire


class StatusView(Wire):
    """State, with a reason in capitals and a sentence for people."""

    state: str = Field(examples=["Running"])
    reason: str | None = Field(default=None, examples=["CONTAINER_RUNNING"])
    message: str | None = None
    last_transition_at: Timestamp | None = None


class ImageView(Wire):
    """The image; credentials are never shown."""

    uri: str


class PlatformView(Wire):
    """The platform that was asked for."""

    os: str
    arch: str


class CreatedSandbox(Wire):
    """The answer to a create."""

    id: str
    status: StatusView
    metadata: dict[str, str] | None = None
    extensions: dict[str, str] | None = None
    platform: PlatformView | None = None
    expires_at: Timestamp | None = None
    created_at: Timestamp
    entrypoint: list[str] = Field(default_factory=list)


class SandboxView(CreatedSandbox):
    """One sandbox."""

    image: ImageView | None = None
    snapshot_id: str | None = None


class Pagination(Wire):
    """Which page this is, of how many."""

    page: int
    page_size: int
    total_items: int
    total_pages: int
    has_next_page: bool


class SandboxList(Wire):
    """One page of sandboxes, newest first."""

    items: list[SandboxView]
    pagination: Pagination


class RenewRequest(Request):
    """When the sandbox is to expire."""

    expires_at: Timestamp = Field(examples=["2030-01-01T00:00:00Z"])


class RenewAnswer(Wire):
    """When the sandbox expires now."""

    expires_at: Timestamp


class EndpointView(Wire):
    """Where a port is reached: an address without scheme, and headers that requests need."""

    endpoint: str = Field(examples=["203.0.113.5:40123"])
    headers: dict[str, str] | None = None


class TrafficView(Wire):
    """What has passed through the gateway to one sandbox."""

    requests: int = 0
    bytes_in: int = Field(default=0, description="Bytes of requests.")
    bytes_out: int = Field(default=0, description="Bytes of answers.")
    open_connections: int = 0
    last_activity_at: Timestamp | None = None


class AccessView(Wire):
    """The limits of one sandbox, by their names."""

    limits: dict[str, str] = Field(examples=[{"access.limit.requests.per.second": "10"}])


class AccessPatch(Request):
    """Limits to set, and with null to lift."""

    limits: dict[str, str | None]


class PageQuery(Wire):
    """Which page, of how many items."""

    page: Annotated[int, Field(ge=1)] = 1
    page_size: Annotated[int, Field(ge=1, le=200)] = 20


class ListQuery(PageQuery):
    """What to list."""

    state: list[str] = Field(default_factory=list, description="May be repeated: any of them. Case does not matter.")
    metadata: str | None = Field(
        default=None, description="A query string: every pair must match.", examples=["team=search&env=prod"]
    )


class EndpointQuery(Wire):
    """Which form of address."""

    use_server_proxy: bool = Field(default=False, alias="use_server_proxy")
    expires: int | None = Field(default=None, description="Asks for a signed address until then, in epoch seconds.")
    signature: Literal["short", "long"] = Field(
        default="short", description="A long one cannot be guessed, and may be bound to methods and paths."
    )
    method: list[str] = Field(default_factory=list, description="Binds a long signature to these methods.")
    path: str = Field(default="/", description="Binds a long signature to paths under this one.")

    @model_validator(mode="after")
    def _binding_needs_room(self) -> Self:
        if self.signature == "short" and (self.method or self.path != "/"):
            raise ValueError("signature: must be long to be bound to a method or a path")
        if self.signature == "long" and self.expires is None:
            raise ValueError("expires: is required with a signature")
        return self


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class WaitQuery(Wire):
    """Whether to wait for a state."""

    wait: Annotated[Literal["pending", "running", "paused"], BeforeValidator(_lower)] | None = Field(
        default=None, description="Answer when the sandbox has reached this state, in any case, or has ended."
    )
    timeout: Annotated[float, Field(ge=0, le=60)] = Field(default=30.0, description="Seconds to wait at most.")
