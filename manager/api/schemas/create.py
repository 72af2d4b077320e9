"""The request that creates a sandbox, in the shape of today's clients and in that of the documentation pages."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from manager.api.schemas import patterns
from manager.api.schemas.base import Printable, Request, Text, Wire
from manager.domain.process import process_problems

MIN_TIMEOUT = 60
RESERVED_ENV = "OPENSANDBOX_LIFECYCLE"
NO_BACKEND = "Exactly one backend (host, pvc, ossfs) must be specified, but {found}."

VolumeName = Annotated[Printable, Field(json_schema_extra={"pattern": patterns.LABEL, "minLength": 1, "maxLength": 63})]
"""A DNS label; refused where volumes are looked at, with a code of its own."""
ImageName = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=512, pattern=patterns.IMAGE),
]
Username = Annotated[Printable, StringConstraints(max_length=1024)]
Password = Annotated[str, StringConstraints(max_length=16384)]
"""Both travel to the Engine in one header; the longest that registries give are tokens of a few kilobytes."""
ClaimName = Annotated[str, StringConstraints(pattern=patterns.CLAIM, max_length=253)]


class ImageAuth(Request):
    """Credentials for pulling the image; used for this pull, neither kept nor logged. Without either there are none."""

    username: Username | None = None
    password: Password | None = Field(default=None, json_schema_extra={"format": "password"})

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password must be given together")
        return self


class Image(Request):
    """The image to run. Credentials in either spelling: `auth`, or the two flat fields."""

    uri: ImageName = Field(examples=["python:3.11-slim"])
    auth: ImageAuth | None = None
    image_auth_username: Username | None = Field(default=None, description="Another spelling of auth.username.")
    image_auth_password: Password | None = Field(
        default=None, description="Another spelling of auth.password.", json_schema_extra={"format": "password"}
    )

    @model_validator(mode="after")
    def _credentials_complete(self) -> Self:
        if (self.image_auth_username is None) != (self.image_auth_password is None):
            raise ValueError("imageAuthUsername and imageAuthPassword must be given together")
        return self


class PlatformChoice(Request):
    """The platform to run on; without it, the runtime's own."""

    os: str = Field(examples=["linux"])
    arch: str = Field(examples=["amd64"])


class Rule(Request):
    """One rule of an egress policy."""

    action: Printable = Field(examples=["allow"])
    target: Text = Field(examples=["*.example.org"])


class Policy(Request):
    """What the sandbox may connect to. Without a default action everything else is denied."""

    default_action: Printable | None = Field(default=None, examples=["deny"])
    egress: tuple[Rule, ...] = ()


class PolicyState(Wire):
    """What the sidecar says of the policy."""

    status: str | None = None
    mode: str | None = None
    enforcement_mode: str | None = None
    reason: str | None = None
    policy: Policy | None = None


class CredentialProxy(Request):
    """Whether credentials are injected into the sandbox's outgoing requests."""

    enabled: bool = False


class HostBackend(Request):
    """A directory of the runtime's host."""

    path: Annotated[Printable, StringConstraints(pattern=patterns.ANY_ABSOLUTE_PATH)]


class ClaimBackend(Request):
    """A volume of the runtime: a Docker volume, a PersistentVolumeClaim. The last three mean something there only."""

    claim_name: ClaimName
    create_if_not_exists: bool = True
    delete_on_sandbox_termination: bool = False
    storage_class: Printable | None = None
    storage: Annotated[str, StringConstraints(pattern=patterns.SIZE)] | None = None
    access_modes: tuple[str, ...] = ()


class BucketBackend(Request):
    """A bucket of an object storage, mounted by `ossfs` (version 1.0) or `ossfs2` (2.0) on the server's machine."""

    bucket: str = Field(examples=["my-data"])
    endpoint: str = Field(examples=["oss-cn-hangzhou.aliyuncs.com"])
    version: str = "2.0"
    options: tuple[str, ...] = ()
    access_key_id: str
    access_key_secret: str = Field(json_schema_extra={"format": "password"})


class Volume(Request):
    """One volume and where it appears. Also taken in the flat shape `{type: "host", hostPath, mountPath}`."""

    name: VolumeName
    mount_path: Annotated[Printable, StringConstraints(pattern=patterns.ABSOLUTE_PATH)]
    read_only: bool = False
    sub_path: Printable | None = None
    host: HostBackend | None = None
    pvc: ClaimBackend | None = None
    ossfs: BucketBackend | None = None

    @model_validator(mode="after")
    def _one_backend(self) -> Self:
        given = [name for name in ("host", "pvc", "ossfs") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                NO_BACKEND.format(found=f"{', '.join(given)} were provided" if given else "none was provided")
            )
        return self


class PreStart(Request):
    """A command before the sandbox starts."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    timeout_seconds: Annotated[int, Field(ge=1, le=10800)] = 60


class Periodic(Request):
    """A command run again and again."""

    name: str
    schedule: str
    command: str
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 60


class LifecycleHooks(Request):
    """Commands around the life of a sandbox; Kubernetes only."""

    pre_start: PreStart | None = None
    periodic: tuple[Periodic, ...] = ()


class CreateSandboxRequest(Request):
    """What to create: exactly one of `image` and `snapshotId`; `entrypoint` and `resourceLimits` with an image."""

    image: Image | None = None
    snapshot_id: str | None = None
    template_id: str | None = Field(
        default=None, description="Templates are a matter of Kubernetes; refused elsewhere."
    )
    platform: PlatformChoice | None = None
    timeout: Annotated[int, Field(ge=MIN_TIMEOUT)] | None = Field(
        default=None, description="Lifetime in seconds; null or absent means until it is deleted.", examples=[3600]
    )
    resource_limits: dict[str, str] | None = Field(
        default=None,
        description="What it may use: cpu (at least 10m), memory (at least 6Mi), gpu or nvidia.com/gpu (a count, or "
        "all), ephemeral-storage. What cannot be held is refused.",
        examples=[{"cpu": "500m", "memory": "512Mi"}],
    )
    resource_requests: dict[str, str] | None = Field(
        default=None,
        description="What is to be had when others want it too. With Docker: shares of CPU, a soft limit of memory; "
        "devices as in resourceLimits; no disk.",
        examples=[{"cpu": "250m", "memory": "256Mi"}],
    )
    env: dict[str, str | None] = Field(default_factory=dict, description="null removes a configured variable.")
    metadata: dict[str, str] = Field(default_factory=dict, examples=[{"team": "search"}])
    lifecycle: LifecycleHooks | None = None
    entrypoint: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, examples=[["python", "-m", "http.server", "8080"]]
    )
    network_policy: Policy | None = None
    credential_proxy: CredentialProxy | None = None
    secure_access: bool = False
    secure_runtime: bool = Field(
        default=False,
        description="Runs the sandbox in the secure runtime the server is configured with.",
    )
    volumes: tuple[Volume, ...] = ()
    extensions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _other_shapes(cls, data: Any) -> Any:
        """Blank ids mean none, and volumes may be flat."""
        if not isinstance(data, dict):
            return data
        given = dict(data)
        for key in ("snapshotId", "snapshot_id", "templateId", "template_id"):
            if isinstance(given.get(key), str) and not given[key].strip():
                del given[key]
        if isinstance(given.get("volumes"), list):
            given["volumes"] = [_volume_shape(item, place) for place, item in enumerate(given["volumes"])]
        return given

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        for problem in process_problems(self.env, self.entrypoint or ()):
            raise ValueError(problem)
        if RESERVED_ENV in self.env:
            raise ValueError(f"env: '{RESERVED_ENV}' is reserved. Use the lifecycle request field instead.")
        if self.template_id is not None:
            self._check_template()
            return self
        if "poolRef" in self.extensions:
            return self
        if (self.image is None) == (self.snapshot_id is None):
            raise ValueError("Exactly one of image or snapshotId must be provided.")
        if self.image is not None and self.entrypoint is None:
            raise ValueError("entrypoint is required when image is provided.")
        if self.resource_limits is None:
            raise ValueError("resourceLimits is required when poolRef is not provided.")
        return self

    def _check_template(self) -> None:
        fields = type(self).model_fields
        default = {name: fields[name].get_default(call_default_factory=True) for name in _OF_TEMPLATES}
        given = ", ".join(to_camel(name) for name in _OF_TEMPLATES if getattr(self, name) != default[name])
        if given:
            raise ValueError(f"templateId cannot be combined with {given}: the template says what runs.")


_OF_TEMPLATES = (
    "image",
    "snapshot_id",
    "entrypoint",
    "env",
    "resource_limits",
    "resource_requests",
    "volumes",
    "platform",
    "credential_proxy",
    "secure_access",
    "secure_runtime",
    "lifecycle",
)

_FLAT: dict[str, tuple[str, Literal["path", "claimName"]]] = {
    "hostPath": ("host", "path"),
    "host_path": ("host", "path"),
    "claimName": ("pvc", "claimName"),
    "claim_name": ("pvc", "claimName"),
}
_FLAT_TYPES = {"host": "host", "pvc": "pvc", "volume": "pvc"}
_CLAIM_OPTIONS = (
    "createIfNotExists",
    "create_if_not_exists",
    "deleteOnSandboxTermination",
    "delete_on_sandbox_termination",
)


def _volume_shape(item: Any, place: int) -> Any:
    """The flat shape `{type, hostPath | claimName, mountPath}` as the nested one; anything else as it is."""
    if not isinstance(item, dict):
        return item
    flat = next((key for key in _FLAT if item.get(key) is not None), None)
    kind = item.get("type")
    if flat is None or not (kind is None or _FLAT_TYPES.get(str(kind)) == _FLAT[flat][0]):
        return item
    backend, field = _FLAT[flat]
    nested: dict[str, Any] = {field: item[flat]}
    if backend == "pvc":
        nested.update({key: item[key] for key in _CLAIM_OPTIONS if key in item})
    rest = {key: value for key, value in item.items() if key not in {*_FLAT, "type", *_CLAIM_OPTIONS}}
    return {"name": f"volume-{place}", **rest, backend: nested}
