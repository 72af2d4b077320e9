"""Which key made what, and who sees it. Pure.

A thing belongs to the key it was made with, by the key's name: a key that is renamed leaves what it made to the keys
that see everything, and a secret that is changed under the same name keeps it.
"""

from __future__ import annotations

from dataclasses import replace

from manager.domain.errors import Forbidden
from manager.domain.request import CreateRequest
from manager.domain.sandbox import HostVolume, NamedVolume, VolumeMount

SCOPE = "API_KEY_SCOPE"
"""The code for what a key of scope own may not do at all."""
OWN_VOLUMES = "opensandbox-own-"


def sees(viewer: str | None, owner: str) -> bool:
    """Whether somebody sees what the key called `owner` has made.

    `viewer` is the name of a key that sees its own only; None sees everything.
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
