"""Limits of a sandbox's traffic: from the extensions of its create, or as changed afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access import quotas
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.errors import Invalid
from manager.domain.sandbox import Sandbox


def limits_in(extensions: Mapping[str, str]) -> dict[str, str]:
    """The limits among the extensions."""
    return {key: value for key, value in extensions.items() if key.startswith(quotas.PREFIX)}


def with_limits(extensions: Mapping[str, str], limits: Mapping[str, str]) -> dict[str, str]:
    """The extensions with these limits in place of their own."""
    return {**{key: value for key, value in extensions.items() if not key.startswith(quotas.PREFIX)}, **limits}


def rules_in(extensions: Mapping[str, str]) -> quotas.QuotaRules | None:
    """The limits as the gateway takes them; raises Invalid, naming the key, the value and what is allowed."""
    try:
        return quotas.parse(extensions)
    except ValueError as error:
        raise Invalid(INVALID_PARAMETER, f"extensions.{error}") from error


def check_limits(limits: Mapping[str, str]) -> None:
    """Raises Invalid for what is no limit, or is one with a value that is not allowed."""
    for key in limits:
        if not key.startswith(quotas.PREFIX):
            raise Invalid(INVALID_PARAMETER, f"limits: {key[:60]!r} is no limit; limits begin with {quotas.PREFIX}")
    rules_in(limits)


def rules_of(sandbox: Sandbox) -> quotas.QuotaRules | None:
    """The limits of an existing sandbox; a value that another version wrote and this one cannot read is ignored."""
    try:
        return quotas.parse(sandbox.extensions)
    except ValueError:
        return None
