"""The bodies of requests as the models of this interpreter's SDK write them: `write_bodies.py IMAGE`.

Prints one JSON object: by request, a list of bodies. Each model is written twice, with its optional fields unset and
with them set to None, the models that programs fill in (`opensandbox.models`) as well as those that travel.
"""

import importlib
import json
import pkgutil
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import opensandbox.api.lifecycle.models as generated
import opensandbox.models.sandboxes as filled_in
from pydantic import BaseModel

NEEDED: dict[str, dict[str, Any]] = {
    "CreateSandboxRequest": {"entrypoint": ["sleep", "infinity"], "timeout": 600},
    "ImageSpec": {"uri": sys.argv[1]},
    "Volume": {"name": "data", "mount_path": "/data"},
    "PVC": {"claim_name": "@CLAIM@"},
    "RenewSandboxExpirationRequest": {"expires_at": datetime.now(UTC) + timedelta(hours=1)},
    "CreateFsbTemplateRequest": {"image": "python:3.11", "publish": "s3://bucket/publish"},
    "MetricsEvent": {"event_type": "sandbox.create", "create_duration_ms": 5, "success": True},
}
"""What a model cannot do without."""
PARTS = {
    ("CreateSandboxRequest", "image"): "ImageSpec",
    ("CreateSandboxRequest", "resource_limits"): "ResourceLimits",
    ("CreateSandboxRequest", "network_policy"): "NetworkPolicy",
    ("CreateSandboxRequest", "credential_proxy"): "CredentialProxyConfig",
    ("CreateSandboxRequest", "volumes"): ["Volume"],
    ("ImageSpec", "auth"): "ImageSpecAuth",
    ("Volume", "pvc"): "PVC",
    ("CreateFsbTemplateRequest", "readiness"): "FsbTemplateReadiness",
    ("CreateFsbTemplateRequest", "resource_limits"): "ResourceLimits",
}
"""Fields that hold another model, which is written too where this release has it."""
REQUESTS = {
    "create": "CreateSandboxRequest",
    "renew": "RenewSandboxExpirationRequest",
    "snapshot": "CreateSnapshotRequest",
    "policy": "NetworkPolicy",
    "template": "CreateFsbTemplateRequest",
    "metrics": "MetricsEvent",
}


def classes(package: Any) -> dict[str, Any]:
    """Every model of the package by name."""
    found = {}
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        found.update(vars(importlib.import_module(module.name)))
    return found


class Words(str):
    """A word where a model asks for a member of an enumeration."""

    value = property(str)


def travelling(models: dict[str, Any], name: str, *, nulls: bool) -> Any:
    """A generated model; `nulls` sets the optional fields to None that it can write so."""
    kind = models[name]
    values = {key: Words(value) if isinstance(value, str) else value for key, value in NEEDED.get(name, {}).items()}
    fields = [field.name for field in kind.__attrs_attrs__ if field.init]
    for field in fields:
        part = PARTS.get((name, field))
        if isinstance(part, list) and part[0] in models:
            values[field] = [travelling(models, part[0], nulls=nulls)]
        elif isinstance(part, str) and part in models:
            values[field] = travelling(models, part, nulls=nulls)
    model = kind(**{key: value for key, value in values.items() if key in fields})
    for field in (field for field in fields if nulls and field not in values):
        unset = getattr(model, field)
        setattr(model, field, None)
        try:
            model.to_dict()
        except (AttributeError, TypeError):
            setattr(model, field, unset)
    return model


def by_hand(name: str, *, nulls: bool) -> Any:
    """A model of those that programs fill in, as JSON; None where this release has it not."""
    kind = getattr(filled_in, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return None
    needed = dict(NEEDED.get(name, {}))
    if name == "Volume":
        needed["pvc"] = filled_in.PVC(**NEEDED["PVC"])
    return kind(**needed).model_dump(mode="json", by_alias=True, exclude_none=not nulls, exclude_unset=not nulls)


def main() -> None:
    models = classes(generated)
    bodies: dict[str, list[Any]] = {}
    for request, name in REQUESTS.items():
        if name in models:
            bodies[request] = [travelling(models, name, nulls=nulls).to_dict() for nulls in (False, True)]
    for nulls in (False, True):
        plain = travelling(models, "CreateSandboxRequest", nulls=nulls).to_dict()
        parts = {
            "networkPolicy": by_hand("NetworkPolicy", nulls=nulls),
            "credentialProxy": by_hand("CredentialProxyConfig", nulls=nulls),
        }
        volume = by_hand("Volume", nulls=nulls) if hasattr(filled_in, "PVC") else None
        given = {key: value for key, value in parts.items() if value is not None}
        bodies["create"].append(plain | given | ({"volumes": [volume]} if volume else {}))
        snapshot = by_hand("CreateSnapshotRequest", nulls=nulls)
        if snapshot is not None:
            bodies["snapshot"].append(snapshot)
    print(json.dumps(bodies))


if __name__ == "__main__":
    main()
