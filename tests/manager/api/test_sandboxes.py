"""The sandbox routes as clients use them: shapes, statuses, both prefixes, every refusal in the envelope."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from manager.domain.errors import Failed, TimedOut, Unavailable
from tests.manager.api.conftest import Api, OpenApi, plain
from tests.manager.harness import until

NOBODY = "00000000-0000-4000-8000-000000000000"
SHORT = 600
FUTURE = "2030-01-01T00:00:00Z"

SDK_CREATE = {
    "image": {"uri": "image:1", "auth": {"username": "u", "password": "p"}},
    "timeout": 120,
    "resourceLimits": {"cpu": "1", "memory": "2Gi"},
    "entrypoint": ["tail", "-f", "/dev/null"],
    "env": {"A": "b", "N": None},
    "metadata": {"team": "x"},
    "secureAccess": False,
    "extensions": {"access.renew.extend.seconds": "300", "opensandbox.extensions.foo": "bar", "z": "1"},
    "volumes": [{"name": "data", "host": {"path": "/srv"}, "mountPath": "/data", "readOnly": True}],
}
OSSFS = {"bucket": "my-data", "endpoint": "oss.example.com", "accessKeyId": "id", "accessKeySecret": "hunter2"}


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_a_life_through_the_api(api: Api, prefix: str) -> None:
    """Create, get, list, renew, pause, resume, delete at both prefixes."""
    status, made = await api.call("POST", f"{prefix}/sandboxes", json=SDK_CREATE)
    assert status == 202
    path = f"{prefix}/sandboxes/{made['id']}"
    assert (await api.call("GET", path))[1]["image"] == {"uri": "image:1"}
    assert (await api.call("GET", f"{prefix}/sandboxes"))[1]["pagination"]["totalItems"] == 1
    renewed = await api.call("POST", f"{path}/renew-expiration", json={"expiresAt": FUTURE})
    assert renewed == (200, {"expiresAt": FUTURE})
    assert (await api.call("POST", f"{path}/pause"))[0] == 202
    assert (await api.call("GET", path))[1]["status"]["state"] == "Paused"
    assert (await api.call("POST", f"{path}/resume"))[0] == 202
    assert (await api.call("DELETE", path)) == (204, None)
    assert (await api.call("GET", path))[0] == 404


async def test_the_answer_to_a_create(api: Api) -> None:
    """Exactly 202, with what clients need, nulls left out, only marked extensions echoed."""
    made = await api.create(**SDK_CREATE)
    assert set(made) == {"id", "status", "metadata", "extensions", "expiresAt", "createdAt", "entrypoint"}
    assert made["extensions"] == {"opensandbox.extensions.foo": "bar"}
    assert made["status"]["state"] == "Running"
    assert (made["createdAt"], made["expiresAt"]) == ("2026-06-01T12:00:00Z", "2026-06-01T12:02:00Z")


async def test_what_the_runtime_is_given(api: Api) -> None:
    """Everything the request said arrives, in the domain's words."""
    made = await api.create(**SDK_CREATE)
    spec = api.house.runtime.specs[made["id"]]
    assert spec.image_auth is not None
    assert (spec.image_auth.username, spec.image_auth.password) == ("u", "p")
    assert spec.env == {"A": "b", "N": None}
    assert spec.resource_limits == {"cpu": "1", "memory": "2Gi"}
    assert [(mount.name, mount.mount_path, mount.read_only) for mount in spec.volumes] == [("data", "/data", True)]


@pytest.mark.parametrize(
    "image",
    [
        {"uri": "i:1", "auth": {"username": "u", "password": "p"}},
        {"uri": "i:1", "imageAuthUsername": "u", "imageAuthPassword": "p"},
        {"uri": "i:1", "image_auth_username": "u", "image_auth_password": "p"},
    ],
)
async def test_every_spelling_of_registry_credentials(api: Api, image: dict[str, Any]) -> None:
    """The clients' shape and both of the documentation's mean the same."""
    made = await api.create(image=image)
    auth = api.house.runtime.specs[made["id"]].image_auth
    assert auth is not None
    assert (auth.username, auth.password) == ("u", "p")


@pytest.mark.parametrize(
    ("volume", "name", "source"),
    [
        ({"type": "host", "hostPath": "/srv", "mountPath": "/d"}, "volume-0", "/srv"),
        ({"host_path": "/srv", "mount_path": "/d"}, "volume-0", "/srv"),
        ({"name": "n", "type": "pvc", "claimName": "c", "mountPath": "/d"}, "n", "c"),
        ({"name": "n", "pvc": {"claimName": "c"}, "mountPath": "/d"}, "n", "c"),
        ({"name": "n", "ossfs": {**OSSFS, "options": None}, "mountPath": "/d"}, "n", "bucket='my-data'"),
    ],
)
async def test_both_shapes_of_volumes(api: Api, volume: dict[str, Any], name: str, source: str) -> None:
    """Nested as today's clients send them, flat as the documentation shows them."""
    made = await api.create(volumes=[volume])
    (mount,) = api.house.runtime.specs[made["id"]].volumes
    assert mount.name == name
    assert source in str(mount.source)


@pytest.mark.parametrize(
    "spelling",
    [
        {"timeout": "120", "secureRuntime": True},
        {"timeout": 120.0, "secure_runtime": "true"},
        {"timeout": 120, "secureRuntime": "yes", "env": None, "metadata": None, "volumes": None},
    ],
)
async def test_lax_spellings(api: Api, spelling: dict[str, Any]) -> None:
    """Numbers and booleans as text, snake_case names and null collections are understood."""
    status, made = await api.call("POST", "/sandboxes", json={**plain(), **spelling})
    assert status == 202, made
    assert api.house.runtime.specs[made["id"]].secure_runtime
    assert made["expiresAt"] == "2026-06-01T12:02:00Z"


async def test_manual_cleanup(api: Api) -> None:
    """timeout null means no expiry."""
    status, made = await api.call("POST", "/sandboxes", json={**plain(), "timeout": None})
    assert status == 202
    assert "expiresAt" not in made


REFUSED: list[tuple[Any, str]] = [
    ({"timeout": 59}, "timeout: must be at least 60, got 59"),
    ({"timeout": "soon"}, "timeout: "),
    ({"timeout": 10**30}, "timeout: "),
    ({"image": "x"}, "image: must be an object, got 'x'"),
    ({"volumes": "x"}, "volumes: must be a list, got 'x'"),
    ({"secureAccess": "maybe"}, "secureAccess: must be true or false, got 'maybe'"),
    ({"image": {"uri": " "}}, "image.uri: "),
    ({"image": {"uri": "../.."}}, "image.uri: "),
    ({"image": {"uri": "a//b"}}, "image.uri: "),
    ({"image": {"uri": "a b"}}, "image.uri: "),
    ({"image": {"uri": "x" * 513}}, "image.uri: "),
    ({"image": {"uri": "x", "imageAuthUsername": "u"}}, "image: imageAuthUsername and imageAuthPassword"),
    ({"env": {"": "x"}}, "env: ''"),
    ({"env": {"A=B": "x"}}, "env: 'A=B'"),
    ({"env": {"A\n": "x"}}, "control characters"),
    ({"env": {"A": "x" * 131071}}, "env.A: is longer"),
    ({"entrypoint": ["x", "y" * 131072]}, "entrypoint.1: is longer"),
    ({"metadata": {f"k{number}": "v" * 60 for number in range(300)}}, "may hold 16384"),
    ({"extensions": {"opensandbox.extensions.a": "x" * 20000}}, "may hold 16384"),
    ({"extensions": {"a\tb": "x"}}, "control characters"),
    ({"image": None}, "Exactly one of image or snapshotId"),
    ({"snapshotId": "s"}, "Exactly one of image or snapshotId"),
    ({"entrypoint": None}, "entrypoint is required"),
    ({"entrypoint": []}, "entrypoint: must have at least 1 item(s), got a list"),
    ({"entrypoint": [1]}, "entrypoint.0: must be a string, got 1"),
    ({"resourceLimits": None}, "resourceLimits is required"),
    ({"resourceLimits": {"cpu": 1}}, "resourceLimits.cpu: "),
    ({"metadata": {"a": 1}}, "metadata.a: "),
    ({"metadata": {"a b": "x"}}, "'a b'"),
    ({"env": {"OPENSANDBOX_LIFECYCLE": "x"}}, "OPENSANDBOX_LIFECYCLE"),
    ({"env": {"A": 1}}, "env.A: "),
    ({"env": []}, "env: "),
    ({"credentialProxy": {"enabled": True}}, "credentialProxy.enabled requires networkPolicy."),
    ({"networkPolicy": {}}, "egress.image"),
    ({"networkPolicy": {"egress": [{"action": "allow", "target": ""}]}}, "networkPolicy.egress.0.target: "),
    ({"secureAccess": True}, "secureAccess"),
    ({"volumes": [{"name": "d", "mountPath": "/d"}]}, "none was provided"),
    ({"volumes": [{"name": "d", "host": {"path": "/x"}, "mountPath": "d"}]}, "volumes.0.mountPath: "),
    ({"volumes": [{"name": "d", "host": {"path": "x"}, "mountPath": "/d"}]}, "volumes.0.host.path: "),
    (
        {"volumes": [{"name": "d", "ossfs": {"bucket": "b"}, "mountPath": "/d"}]},
        "ossfs.endpoint: is required",
    ),
    ({"volumes": [{"name": "d", "ossfs": {"options": 3}, "mountPath": "/d"}]}, "volumes.0.ossfs.options: "),
    ({"platform": {"os": "darwin", "arch": "arm64"}}, "Unsupported platform.os 'darwin'"),
    ({"extensions": {"poolRef": "p"}}, "poolRef"),
    ({"lifecycle": {"preStart": {"command": ["x"]}}}, "lifecycle"),
    ({"templateId": "t"}, "templateId cannot be combined with image, entrypoint, resourceLimits"),
    ({"templateId": "t", "image": None, "entrypoint": None, "resourceLimits": None}, "templates are not available"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[json.dumps(change)[:60] for change, _ in REFUSED])
async def test_creates_that_are_refused(api: Api, change: dict[str, Any], words: str) -> None:
    """400 in the envelope, naming the field; the runtime is not asked."""
    status, body = await api.call("POST", "/sandboxes", json=plain(**change))
    assert (status, set(body)) == (400, {"code", "message"})
    assert words in body["message"]
    assert api.house.runtime.calls["create"] == 0


def volume(**parts: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "d", "host": {"path": "/x"}, "mountPath": "/d", **parts}]}


def one_line_texts(text: str) -> list[dict[str, Any]]:
    """Creates with this text where a name, a path or another short text belongs."""
    return [
        {"image": {"uri": text}},
        {"image": {"uri": "i", "auth": {"username": text, "password": "p"}}},
        {"metadata": {text: "v"}},
        {"metadata": {"k": text}},
        {"env": {text: "v"}},
        {"extensions": {text: "v"}},
        {"extensions": {"opensandbox.extensions.a": text}},
        {"platform": {"os": text, "arch": "amd64"}},
        {"snapshotId": text, "image": None},
        {"networkPolicy": {"egress": [{"action": "allow", "target": text}]}},
        volume(name=text),
        volume(mountPath="/" + text),
        volume(subPath=text),
        volume(host={"path": "/" + text}),
        volume(host=None, pvc={"claimName": text}),
    ]


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31m", "\u202eevil", "a\x00b", "a\ud800"])
async def test_texts_that_are_no_names(api: Api, text: str) -> None:
    """Control characters, marks that turn the reading direction, and what is no Unicode: 4xx, and nothing is made."""
    for change in one_line_texts(text):
        status, _ = await api.call("POST", "/sandboxes", json=plain(**change))
        assert status == 400 or (status == 404 and "snapshotId" in change), change
    assert api.house.runtime.calls["create"] == 0


async def test_refusals_are_short(api: Api) -> None:
    """A message repeats no more of what was sent than it takes to find it."""
    long, limit = "x" * 20_000, "access.limit."
    changes = [
        *one_line_texts(long),
        *({"extensions": {key: value}} for key, value in ((limit + long, "1"), (limit + "connections", long))),
        {"env": {"A": long * 7}},
        {"entrypoint": [long * 7]},
        {"timeout": long},
        {"resourceLimits": {"cpu": long}},
    ]
    for change in changes:
        status, body = await api.call("POST", "/sandboxes", json=plain(**change))
        assert status == 202 or len(body["message"]) < SHORT, body
    for path in (
        f"/sandboxes?state={long[:3000]}&metadata={long[:3000]}",
        f"/sandboxes/{long[:3000]}",
        f"/{long[:3000]}",
    ):
        status, body = await api.call("GET", path)
        assert len(body["message"]) < SHORT, body


async def test_texts_that_programs_are_given(api: Api) -> None:
    """What a program is to see arrives as it is, whatever the characters."""
    text = "line\nline\t\x1b[31m \u202e \U0001f600"
    made = await api.create(entrypoint=["sh", "-c", text], env={"A": text})
    spec = api.house.runtime.specs[made["id"]]
    assert (spec.entrypoint[-1], spec.env["A"]) == (text, text)


async def test_secrets_are_not_repeated(api: Api) -> None:
    """A refused request does not show credentials or variables in its answer."""
    body = plain(image={"uri": "i", "auth": {"username": "u", "password": ["hunter2"]}}, env={"TOKEN": ["hunter2"]})
    status, answer = await api.call("POST", "/sandboxes", json=body)
    assert status == 400
    assert "hunter2" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failed("DOCKER::SANDBOX_START_FAILED", "no space"), 500),
        (Unavailable("DOCKER::UNAVAILABLE", "the Engine is down"), 503),
        (TimedOut("DOCKER::TIMEOUT", "the pull hung"), 504),
    ],
)
async def test_creates_that_fail(api: Api, error: Exception, status: int) -> None:
    """The kind of failure decides the status; the code and the words are the runtime's."""
    api.house.runtime.fail("create", error)
    answered, body = await api.call("POST", "/sandboxes", json=plain())
    assert answered == status
    assert body == {"code": error.code, "message": error.message}  # type: ignore[attr-defined]


async def test_a_bug_is_a_500_in_the_envelope(api: Api) -> None:
    """Without details, with the request id."""
    api.house.runtime.fail("create", ValueError("secret detail"))
    async with api.client.post("/sandboxes", json=plain(), headers={"X-Request-ID": "r1"}) as response:
        body = await response.json()
        assert (response.status, response.headers["X-Request-ID"]) == (500, "r1")
    assert body["code"] == "GENERAL::UNKNOWN_ERROR"
    assert "secret" not in body["message"]


async def test_lists(api: Api) -> None:
    """Filters and paging as query parameters; the metadata filter is a query string in the query."""
    for team in ("a", "b", "a"):
        await api.create(metadata={"team": team, "blank": ""})
    status, body = await api.call("GET", "/sandboxes?metadata=team%3Da%26blank%3D&state=running&state=x&pageSize=1")
    assert status == 200
    assert body["pagination"] == {"page": 1, "pageSize": 1, "totalItems": 2, "totalPages": 2, "hasNextPage": True}
    assert (await api.call("GET", "/sandboxes?state=paused"))[1]["pagination"]["totalPages"] == 0


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("page=0", "SANDBOX::INVALID_PARAMETER"),
        ("pageSize=201", "SANDBOX::INVALID_PARAMETER"),
        ("page=x", "SANDBOX::INVALID_PARAMETER"),
        ("page=1&page=2", "SANDBOX::INVALID_PARAMETER"),
        ("metadata=novalue", "INVALID_METADATA_FORMAT"),
    ],
)
async def test_bad_lists(api: Api, query: str, code: str) -> None:
    """Each bad parameter is a 400."""
    status, body = await api.call("GET", f"/sandboxes?{query}")
    assert (status, body["code"]) == (400, code)


@pytest.mark.parametrize("name", [NOBODY, "x", "UPPER", "a" * 500, "..", "a%2Fb", "%00", "ä", "-a"])
async def test_ids_of_nobody(api: Api, name: str) -> None:
    """An unknown id and a text that is none are 404 in the envelope on every route."""
    for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/endpoints/80")):
        status, body = await api.call(method, f"/sandboxes/{name}{tail}")
        assert (status, set(body)) in ((404, {"code", "message"}), (405, {"code", "message"}))


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (FUTURE, 200),
        ("2030-01-01T00:00:00.5+02:00", 200),
        ("2030-01-01T00:00:00", 200),
        (1893456000, 200),
        ("2020-01-01T00:00:00Z", 400),
        ("soon", 400),
        (None, 400),
        ("0001-01-01T00:00:00+14:00", 400),
        (1e300, 400),
    ],
)
async def test_moments(api: Api, value: Any, status: int) -> None:
    """ISO 8601 with or without zone and epoch seconds; the past and nonsense are 400."""
    made = await api.create()
    answered, body = await api.call("POST", f"/sandboxes/{made['id']}/renew-expiration", json={"expiresAt": value})
    assert answered == status, body


async def test_conflicts_name_the_state(api: Api) -> None:
    """409 with the code clients match on."""
    made = await api.create()
    status, body = await api.call("POST", f"/sandboxes/{made['id']}/resume")
    assert (status, body["code"]) == (409, "DOCKER::SANDBOX_NOT_PAUSED")
    assert "Running" in body["message"]


async def test_metadata_patch(api: Api) -> None:
    """A merge patch; an empty result leaves the field out."""
    made = await api.create(metadata={"a": "1"})
    path = f"/sandboxes/{made['id']}/metadata"
    assert (await api.call("PATCH", path, json={"b": "2"}))[1]["metadata"] == {"a": "1", "b": "2"}
    assert "metadata" not in (await api.call("PATCH", path, json={"a": None, "b": None}))[1]
    bodies: list[Any] = [[], "x", {"a": 1}]
    for bad in bodies:
        assert (await api.call("PATCH", path, json=bad))[0] == 400


@pytest.mark.parametrize(
    "uri", ["a", "a:1", "reg.example.com:5000/team/app_x:v1.2-rc", "a/b@sha256:" + "0" * 64, "localhost/x", "A/b"]
)
async def test_names_of_images(api: Api, uri: str) -> None:
    """Registries, ports, tags and digests pass as they are; space around them does not matter."""
    made = await api.create(image={"uri": f" {uri} "})
    assert api.house.runtime.specs[made["id"]].image == uri


async def test_metadata_cannot_grow_by_patches(api: Api) -> None:
    """Patches that are small each may not add up to too much."""
    made = await api.create()
    path = f"/sandboxes/{made['id']}/metadata"
    patches = [{f"k{part}-{number}": "v" * 60 for number in range(100)} for part in range(3)]
    answers = [(await api.call("PATCH", path, json=patch))[0] for patch in patches]
    assert answers == [200, 200, 400]


async def test_restart_keeps_what_was_promised(open_api: OpenApi) -> None:
    """Renewed expiry and patched metadata are there after the server was killed and started again."""
    first = await open_api()
    made = await first.create()
    await first.call("POST", f"/sandboxes/{made['id']}/renew-expiration", json={"expiresAt": FUTURE})
    second = await open_api(first.house.runtime)
    assert (await second.call("GET", f"/sandboxes/{made['id']}"))[1]["expiresAt"] == FUTURE


async def test_the_api_answers_while_creates_hang(api: Api) -> None:
    """Twenty pulls that hang keep nobody from anything."""
    made = await api.create()
    gate = api.house.runtime.hold("create")
    hanging = [asyncio.create_task(api.call("POST", "/sandboxes", json=plain())) for _ in range(20)]
    await until(lambda: api.house.runtime.calls["create"] == 21)
    assert (await api.call("GET", f"/sandboxes/{made['id']}"))[0] == 200
    assert (await api.call("GET", "/sandboxes?state=pending"))[1]["pagination"]["totalItems"] == 20
    assert (await api.call("DELETE", f"/sandboxes/{made['id']}"))[0] == 204
    gate.set()
    assert {status for status, _ in await asyncio.gather(*hanging)} == {202}


async def test_everything_at_once_on_one_sandbox(api: Api) -> None:
    """Conflicting operations end in success, 404 or 409 that names the state; never in a deadlock or a 500."""
    made = await api.create()
    path = f"/sandboxes/{made['id']}"
    calls = [("POST", f"{path}/pause"), ("POST", f"{path}/resume"), ("GET", path), ("POST", f"{path}/snapshots")] * 8
    answers = await asyncio.gather(*(api.call(*call) for call in [*calls, ("DELETE", path), *calls]))
    assert {status for status, _ in answers} <= {200, 202, 204, 404, 409}
    assert sum(status == 204 for status, _ in answers) == 1
    assert (await api.call("GET", path))[0] == 404


async def test_a_sandbox_from_a_pool(open_api: OpenApi) -> None:
    """It has the id of the one in stock, needs no image, and a pool that is not configured is refused by name."""
    api = await open_api(docker={"pools": {"warm": {"image": "image:1", "size": 1}}})
    api.house.runtime.stock.append(NOBODY)
    body = {"extensions": {"poolRef": "warm"}}
    assert (await api.call("POST", "/sandboxes", json=body))[1]["id"] == NOBODY
    assert (await api.call("POST", "/sandboxes", json=body))[1]["id"] != NOBODY
    status, answer = await api.call("POST", "/sandboxes", json={"extensions": {"poolRef": "cold"}})
    assert (status, answer["code"]) == (400, "SANDBOX::UNSUPPORTED_POOL_REF")
