"""Schema → domain: a request without its wire format. Pure."""

from __future__ import annotations

from typing import cast

from manager.api.schemas.create import ClaimBackend, CreateSandboxRequest, Image, Policy, Volume
from manager.domain.request import CreateRequest
from manager.domain.sandbox import (
    BucketVolume,
    HostVolume,
    NamedVolume,
    NetworkPolicy,
    NetworkRule,
    Platform,
    RegistryAuth,
    VolumeMount,
)


def create_request(body: CreateSandboxRequest) -> CreateRequest:
    """The create as services take it."""
    platform = body.platform
    return CreateRequest(
        image=body.image.uri if body.image else None,
        image_auth=_credentials(body.image),
        snapshot_id=body.snapshot_id,
        template_id=body.template_id,
        platform=Platform(platform.os, platform.arch) if platform else None,
        timeout=body.timeout,
        entrypoint=body.entrypoint or (),
        env=body.env,
        metadata=body.metadata,
        extensions=body.extensions,
        resource_limits=body.resource_limits or {},
        resource_requests=body.resource_requests or {},
        volumes=tuple(_volume(volume) for volume in body.volumes),
        network_policy=network_policy(body.network_policy),
        credential_proxy=body.credential_proxy is not None and body.credential_proxy.enabled,
        secure_access=body.secure_access,
        secure_runtime=body.secure_runtime,
        lifecycle_hooks=body.lifecycle is not None,
    )


def network_policy(policy: Policy | None) -> NetworkPolicy | None:
    """The egress policy, if there is one."""
    if policy is None:
        return None
    return NetworkPolicy(policy.default_action, tuple(NetworkRule(rule.action, rule.target) for rule in policy.egress))


def _credentials(image: Image | None) -> RegistryAuth | None:
    if image is None:
        return None
    username, password = image.image_auth_username, image.image_auth_password
    if image.auth is not None and image.auth.username is not None:
        username, password = image.auth.username, image.auth.password
    return None if username is None or password is None else RegistryAuth(username, password)


def _volume(volume: Volume) -> VolumeMount:
    return VolumeMount(
        name=volume.name,
        mount_path=volume.mount_path,
        source=_source(volume),
        read_only=volume.read_only,
        sub_path=volume.sub_path,
    )


def _source(volume: Volume) -> HostVolume | NamedVolume | BucketVolume:
    """The one backend; the schema has seen to it that there is exactly one."""
    if volume.host is not None:
        return HostVolume(volume.host.path)
    if volume.ossfs is not None:
        bucket = volume.ossfs
        return BucketVolume(
            bucket=bucket.bucket,
            endpoint=bucket.endpoint,
            access_key_id=bucket.access_key_id,
            access_key_secret=bucket.access_key_secret,
            version=bucket.version,
            options=bucket.options,
        )
    claim = cast("ClaimBackend", volume.pvc)
    return NamedVolume(
        claim_name=claim.claim_name,
        create_if_not_exists=claim.create_if_not_exists,
        delete_on_termination=claim.delete_on_sandbox_termination,
        storage_class=claim.storage_class,
        storage=claim.storage,
        access_modes=claim.access_modes,
    )
