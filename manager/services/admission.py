"""The rules of a create that need only request, configuration and what the runtime offers. Pure: nothing is created.

Rules that depend on what a runtime can do are its own (`Runtime.check`); shapes are the API's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from manager.domain import extensions, labels
from manager.domain.codes import (
    API_NOT_SUPPORTED,
    INVALID_METADATA_LABEL,
    INVALID_PARAMETER,
    UNSUPPORTED_POOL_REF,
    Codes,
)
from manager.domain.errors import Invalid
from manager.domain.request import PROXY_NEEDS_POLICY, CreateRequest
from manager.domain.sandbox import Platform
from manager.runtime.base import Feature, Runtime
from manager.services.limits import rules_in
from manager.settings.model import Settings

DEFAULT_ENTRYPOINT = ("tail", "-f", "/dev/null")
"""The default entrypoint of a sandbox restored from a snapshot."""

_SYSTEMS = ("linux", "windows")
_ARCHITECTURES = ("amd64", "arm64")


def admit(request: CreateRequest, settings: Settings, runtime: Runtime, codes: Codes, now: datetime) -> CreateRequest:
    """The request normalised, or Invalid with the first broken rule."""
    _check_extensions(request)
    _check_features(request, runtime.features)
    pooled = _is_pooled(request, runtime.has_pool)
    if not request.entrypoint and request.snapshot_id is None and not pooled:
        raise Invalid(codes.invalid_entrypoint, "entrypoint: name the command the sandbox runs; it must not be empty")
    problem = labels.first_problem(request.metadata)
    if problem is not None:
        raise Invalid(INVALID_METADATA_LABEL, problem)
    _check_timeout(request.timeout, settings.server.max_sandbox_timeout_seconds, now)
    _check_secure_access(request, settings)
    _check_network_policy(request, settings)
    return replace(
        request,
        entrypoint=request.entrypoint or (() if pooled else DEFAULT_ENTRYPOINT),
        platform=_platform(request.platform),
    )


def _check_extensions(request: CreateRequest) -> None:
    problem = extensions.problem(request.extensions)
    if problem is not None:
        raise Invalid(INVALID_PARAMETER, problem)
    rules_in(request.extensions)


def _check_features(request: CreateRequest, offered: frozenset[Feature]) -> None:
    if request.lifecycle_hooks and Feature.LIFECYCLE_HOOKS not in offered:
        raise Invalid(API_NOT_SUPPORTED, "lifecycle: hooks are not available with this runtime; leave the field out")
    if request.template_id is not None and Feature.TEMPLATES not in offered:
        raise Invalid(API_NOT_SUPPORTED, "templateId: templates are not available with this runtime; name an image")


def _is_pooled(request: CreateRequest, has_pool: Callable[[str], bool]) -> bool:
    """Whether the sandbox comes from a warm pool, which sets its entrypoint; raises Invalid for an unknown pool."""
    name = request.extensions.get(extensions.POOL_REF)
    if name is None:
        return False
    if not has_pool(name):
        raise Invalid(
            UNSUPPORTED_POOL_REF,
            f"extensions.{extensions.POOL_REF}: this server has no pool called {name[:40]!r}; leave it out",
        )
    return True


def _check_timeout(timeout: int | None, most: int | None, now: datetime) -> None:
    if timeout is None:
        return
    if most is not None and timeout > most:
        raise Invalid(INVALID_PARAMETER, f"Sandbox timeout {timeout}s exceeds configured maximum of {most}s.")
    try:
        now + timedelta(seconds=timeout)
    except OverflowError:
        raise Invalid(INVALID_PARAMETER, f"timeout: {timeout} is too large to represent safely.") from None


def _check_secure_access(request: CreateRequest, settings: Settings) -> None:
    if request.secure_access and settings.ingress.mode != "gateway":
        raise Invalid(
            INVALID_PARAMETER,
            "secureAccess: needs ingress.mode = gateway, where every way into a sandbox leads through this server",
        )


def _check_network_policy(request: CreateRequest, settings: Settings) -> None:
    if request.network_policy is not None and settings.egress.image is None:
        raise Invalid(INVALID_PARAMETER, "networkPolicy: egress.image is not configured on this server")
    if not request.credential_proxy:
        return
    if request.network_policy is None:
        raise Invalid(INVALID_PARAMETER, PROXY_NEEDS_POLICY)
    if settings.egress.mode != "dns+nft":
        raise Invalid(INVALID_PARAMETER, 'credentialProxy.enabled: needs egress.mode = "dns+nft" on this server')


def _platform(platform: Platform | None) -> Platform | None:
    if platform is None:
        return None
    wanted = Platform(platform.os.strip().lower(), platform.arch.strip().lower())
    for name, value, allowed in (("os", wanted.os, _SYSTEMS), ("arch", wanted.arch, _ARCHITECTURES)):
        if value not in allowed:
            raise Invalid(
                INVALID_PARAMETER,
                f"Unsupported platform.{name} {value[:40]!r}. Supported values: {list(allowed)}.",
            )
    return wanted
