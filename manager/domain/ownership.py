"""Ownership of objects by API keys. Pure.

An object belongs to the key it was created with, by the key's name: after renaming a key its objects are visible to
unrestricted keys only; changing the secret under the same name keeps them.
"""

from __future__ import annotations

from dataclasses import replace

from manager.domain.errors import Forbidden
from manager.domain.request import CreateRequest
from manager.domain.sandbox import HostVolume, NamedVolume, VolumeMount

SCOPE = "API_KEY_SCOPE"
"""The code of operations that a key of scope "own" may never do."""
OWN_VOLUMES = "opensandbox-own-"


def sees(viewer: str | None, owner: str) -> bool:
    """Whether a caller sees objects of the key called `owner`.

    `viewer` is the name of a key of scope "own"; None sees everything.
    """
    return viewer is None or viewer == owner


def confined(request: CreateRequest, viewer: str | None) -> CreateRequest:
    """The create of a key that sees its own only: volumes by names of its own, no directory of the host.

    Raises Forbidden.
    """
    if viewer is None or not request.volumes:
        return request
    return replace(request, volumes=tuple(_confined(volume, viewer) for volume in request.volumes))


def _confined(volume: VolumeMount, viewer: str) -> VolumeMount:
    if isinstance(volume.source, HostVolume):
        message = (
            f"volumes[{volume.name}].host: directories of the host are everybody's, and this API key sees its own."
        )
        raise Forbidden(SCOPE, f"{message} Use a named volume (pvc).")
    if isinstance(volume.source, NamedVolume):
        return replace(volume, source=replace(volume.source, claim_name=volume_of(viewer, volume.source.claim_name)))
    return volume


def volume_of(owner: str, claim: str) -> str:
    """The volume that a claim of this key means: no two keys have one in common, and none has that of an admin.

    A claim holds no underscore, so the last one ends the name of the key.
    """
    return f"{OWN_VOLUMES}{owner}_{claim}"
