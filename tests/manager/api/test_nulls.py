"""Null in a field that may be left out means that it is left out, in every body, and the document says so."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from manager.api.call import NoBody
from manager.api.examples import REQUESTS
from manager.api.routes import ROUTES
from manager.api.schemas.base import OptionalBody, Request
from manager.api.schemas.create import CreateSandboxRequest
from tests.manager.api.conftest import Api, plain
from tests.manager.fake_runtime import running

WHOLE: dict[str, Any] = {
    "Image": {"uri": "image:1"},
    "ImageAuth": {},
    "PlatformChoice": {"os": "linux", "arch": "amd64"},
    "LifecycleHooks": {},
    "PreStart": {"command": ["true"]},
    "Periodic": {"name": "n", "schedule": "* * * * *", "command": "true"},
    "Policy": {},
    "Rule": {"action": "allow", "target": "example.org"},
    "CredentialProxy": {},
    "Volume": {"name": "d", "mountPath": "/d", "pvc": {"claimName": "c"}},
    "HostBackend": {"path": "/d"},
    "ClaimBackend": {"claimName": "c"},
    "BucketBackend": {"bucket": "my-data", "endpoint": "e", "accessKeyId": "i", "accessKeySecret": "s"},
    "CreateSandboxRequest": plain(),
    "PoolCapacity": REQUESTS["PUT", "/pools/{name}"]["capacitySpec"],
    "PoolRequest": REQUESTS["POST", "/pools"],
    "PoolUpdate": REQUESTS["PUT", "/pools/{name}"],
    "TemplateReadiness": {},
    "TemplateRequest": REQUESTS["POST", "/templates"],
    "MetricsEvent": REQUESTS["POST", "/metrics/events"],
    "RenewRequest": REQUESTS["POST", "/sandboxes/{id}/renew-expiration"],
    "AccessPatch": REQUESTS["PATCH", "/sandboxes/{id}/access"],
    "SnapshotRequest": {},
}
"""Each object of a request with what it needs."""

NOT_FOR_EVERYBODY = {"image", "entrypoint", "resource_limits"}
"""Fields of a create of which some requests need one."""


def models(kind: Any) -> Iterator[type[BaseModel]]:
    """Every model that an annotation holds, at any depth."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation)
    for part in typing.get_args(kind):
        yield from models(part)


SENT = sorted(
    {model for route in ROUTES for model in models(route.models[1]) if "root" not in model.model_fields} - {NoBody},
    key=lambda model: model.__name__,
)


@pytest.mark.parametrize("model", SENT, ids=lambda model: model.__name__)
def test_null_is_absent(model: type[BaseModel]) -> None:
    """Every optional field alone, by either name, and all of them together, are read as if they were not there."""
    assert issubclass(model, Request)
    whole = WHOLE[model.__name__]
    plainly = model.model_validate(whole)
    needed = NOT_FOR_EVERYBODY if model is CreateSandboxRequest else set()
    optional = {
        name: info for name, info in model.model_fields.items() if not info.is_required() and name not in needed
    }
    nulls: list[dict[str, None]] = [{name: None} for name in optional if name not in whole]
    nulls += [{str(info.alias): None} for info in optional.values() if info.alias not in whole]
    nulls.append({str(info.alias): None for info in optional.values() if info.alias not in whole})
    for added in nulls:
        assert model.model_validate({**whole, **added}) == plainly, added


async def test_the_document_says_so(api: Api) -> None:
    """Whatever a request may leave out may be null there too; what it needs may not."""
    _, document = await api.call("GET", "/openapi.json")
    schemas = document["components"]["schemas"]
    for model in SENT:
        for field, info in model.model_fields.items():
            schema = schemas[model.__name__]["properties"][info.alias]
            assert ({"type": "null"} in schema.get("anyOf", [])) is not info.is_required(), (model, field)


async def test_a_create_full_of_nulls(api: Api) -> None:
    """As clients send it that write every field they know."""
    volume = {"name": "d", "mountPath": "/d", "host": None, "ossfs": None, "readOnly": None, "subPath": None}
    claim = {"claimName": "c", "createIfNotExists": None, "storageClass": None, "storage": None, "accessModes": None}
    flat = {"type": None, "hostPath": None, "claimName": "e", "mountPath": "/e", "createIfNotExists": None}
    nulls = {str(info.alias): None for info in CreateSandboxRequest.model_fields.values()}
    body = {**nulls, **plain(volumes=[{**volume, "pvc": claim}, flat]), "image": {"uri": "image:1", "auth": {}}}
    status, made = await api.call("POST", "/sandboxes", json=body)
    assert status == 202, made
    spec = api.house.runtime.specs[made["id"]]
    assert [mount.source.claim_name for mount in spec.volumes] == ["c", "e"]  # type: ignore[union-attr]
    assert all(mount.source.create_if_not_exists for mount in spec.volumes)  # type: ignore[union-attr]
    assert spec.image_auth is None


async def test_a_null_that_says_something(api: Api) -> None:
    """In an object of free keys null is a value: it deletes a key of metadata and lifts a limit."""
    made = await api.create(metadata={"a": "1", "b": "2"}, extensions={"access.limit.methods": "GET"})
    path = f"/sandboxes/{made['id']}"
    _, patched = await api.call("PATCH", f"{path}/metadata", json={"a": None})
    assert patched["metadata"] == {"b": "2"}
    _, lifted = await api.call("PATCH", f"{path}/access", json={"limits": {"access.limit.methods": None}})
    assert lifted == {"limits": {}}


async def test_a_whole_body_of_null(api: Api) -> None:
    """It is no body: enough where a body may be left out, and nowhere else."""
    api.house.runtime.appear(running("box"))
    for route in ROUTES:
        body = route.models[1]
        if body is NoBody:
            continue
        path = route.paths[0].replace("{id}", "box").replace("{name}", "pool")
        status, answer = await api.call(route.method, path, data=b"null", headers={"Content-Type": "application/json"})
        assert (status == 400) is not issubclass(body, OptionalBody), (path, answer)
