"""Refusals about sandboxes that exist, or do not."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from tests.refusals.catalogue import ID, refusal
from tests.refusals.stage import Answer, House, Stage

SAID = "something inside the Engine broke"
CONTAINER = r"/containers/[0-9a-f]+"


@contextlib.contextmanager
def paused(house: House, path: str) -> Iterator[None]:
    """A sandbox is paused for as long as the block."""
    house.stage.until(lambda: house.call("POST", f"{path}/pause").status == 202, "pause")
    try:
        yield
    finally:
        house.stage.until(lambda: house.call("POST", f"{path}/resume").status == 202, "resumption")


@refusal("DOCKER::SANDBOX_NOT_FOUND", 404, r"Sandbox nobody not found\.")
def a_sandbox_that_there_is_not(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", "/v1/sandboxes/nobody")


@refusal("DOCKER::SANDBOX_NOT_RUNNING", 409, rf"Sandbox {ID} is Paused: pause is not possible in this state\.")
def a_pause_of_what_is_paused(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    with paused(house, path):
        return house.call("POST", f"{path}/pause")


@refusal("DOCKER::SANDBOX_NOT_PAUSED", 409, rf"Sandbox {ID} is Running: resume is not possible in this state\.")
def a_resume_of_what_runs(stage: Stage) -> Answer:
    house = stage.house("gateway")
    return house.call("POST", f"{house.shared_box()}/resume")


@refusal("DOCKER::SANDBOX_PAUSE_FAILED", 500, rf"Failed to pause sandbox {ID}: {SAID}")
def a_pause_that_the_engine_refuses(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    with stage.refusing("POST", f"{CONTAINER}/pause", SAID):
        return house.call("POST", f"{path}/pause")


@refusal("DOCKER::SANDBOX_RESUME_FAILED", 500, rf"Failed to resume sandbox {ID}: {SAID}")
def a_resume_that_the_engine_refuses(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    with paused(house, path), stage.refusing("POST", f"{CONTAINER}/unpause", SAID):
        return house.call("POST", f"{path}/resume")


@refusal("DOCKER::SANDBOX_DELETE_FAILED", 500, rf"Failed to delete sandbox {ID}: {SAID}")
def a_deletion_that_the_engine_refuses(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    with stage.refusing("DELETE", CONTAINER, SAID):
        return house.call("DELETE", path)


@refusal("DOCKER::SANDBOX_QUERY_FAILED", 500, rf"The Docker Engine could not tell about the output of .*: {SAID}")
def a_question_that_the_engine_cannot_answer(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    with stage.refusing("GET", f"{CONTAINER}/logs", SAID):
        return house.call("GET", f"{path}/diagnostics/logs")


@refusal("DOCKER::ENGINE_ERROR", 501, "configured logging driver does not support reading")
def a_question_that_the_engine_does_not_take(stage: Stage) -> Answer:
    said = "configured logging driver does not support reading"
    house = stage.house("gateway")
    path = house.shared_box()
    with stage.refusing("GET", f"{CONTAINER}/logs", said, 501):
        return house.call("GET", f"{path}/diagnostics/logs")


@refusal("DOCKER::ENGINE_UNAVAILABLE", 503, r"The Docker Engine at unix://\S+ cannot be reached: nothing listens .*")
def an_engine_that_is_not_there(stage: Stage) -> Answer:
    return stage.house("alone").call("GET", "/v1/sandboxes")


@refusal("DOCKER::ENGINE_TIMEOUT", 504, r"The Docker Engine at unix://\S+ did not answer in time\.")
def an_engine_that_says_nothing(stage: Stage) -> Answer:
    return stage.house("unheard").call("GET", "/v1/sandboxes")


@refusal("DOCKER::TOO_MANY_STREAMS", 429, r"2 streams are open; close one and try again")
def a_stream_too_many(stage: Stage) -> Answer:
    house = stage.house("small")
    path = f"{house.shared_box()}/diagnostics/logs?follow=true"
    with contextlib.closing(http.client.HTTPConnection(*house.gateway.addresses[0], timeout=30)) as follower:
        follower.request("GET", path)
        with follower.getresponse():
            return house.call("GET", path)


@refusal("DOCKER::INVALID_PORT", 400, r"Port must be between 1 and 65535\.")
def a_port_that_is_none(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", "/v1/sandboxes/nobody/endpoints/0")


@refusal(
    "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE",
    500,
    rf"No published port leads to port 80 of sandbox {ID} \(it is Terminated\)\. Ask with use_server_proxy=true, .*",
)
def an_endpoint_of_what_has_ended(stage: Stage) -> Answer:
    house = stage.house("direct")
    with house.box(entrypoint=["true"]) as path:
        stage.until(lambda: house.call("GET", path).body["status"]["state"] == "Terminated", "end")
        return house.call("GET", f"{path}/endpoints/80")


@refusal("DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE", 503, rf"Sandbox {ID} is still being created\.")
def an_endpoint_of_what_is_being_made(stage: Stage) -> Answer:
    house = stage.house("direct")
    with stage.holding("POST", r"/containers/create\?") as held:
        made = house.call("POST", "/v1/sandboxes", stage.wish(), Prefer="respond-async")
        held()
        answer = house.call("GET", f"/v1/sandboxes/{made.body['id']}/endpoints/80")
    path = f"/v1/sandboxes/{made.body['id']}"
    house.call("GET", f"{path}?wait=running")
    house.call("DELETE", path)
    return answer


@refusal("DOCKER::SANDBOX_EXPIRED", 410, rf"Sandbox {ID} reached the end of its lifetime\. Create a new one, .*")
def a_sandbox_whose_time_is_over(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = f"/v1/sandboxes/{house.call('POST', '/v1/sandboxes', stage.wish()).body['id']}"
    soon = datetime.now(UTC) + timedelta(seconds=1)
    house.call("POST", f"{path}/renew-expiration", {"expiresAt": soon.isoformat()})
    stage.until(lambda: house.call("GET", path).status != 200, "end of the sandbox")
    return house.call("GET", path)


@refusal("DOCKER::INVALID_EXPIRATION", 400, r"New expiration time must be in the future\.")
def a_renewal_into_the_past(stage: Stage) -> Answer:
    house = stage.house("gateway")
    path = house.shared_box()
    return house.call("POST", f"{path}/renew-expiration", {"expiresAt": "2020-01-01T00:00:00Z"})


@refusal("DOCKER::INVALID_EXPIRATION", 409, rf"Sandbox {ID} does not have automatic expiration enabled\.")
def a_renewal_of_what_never_expires(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with house.box(timeout=None) as path:
        return house.call("POST", f"{path}/renew-expiration", {"expiresAt": "2099-01-01T00:00:00Z"})


@refusal(
    "SANDBOX::INVALID_METADATA_LABEL",
    400,
    r"Metadata key 'opensandbox\.io/id' is reserved \(opensandbox\.io/ prefix\)\.",
)
def a_patch_of_what_is_ours(stage: Stage) -> Answer:
    house = stage.house("gateway")
    return house.call("PATCH", "/v1/sandboxes/nobody/metadata", {"opensandbox.io/id": None})


@refusal(
    "DIAGNOSTICS_SCOPE_UNSUPPORTED", 400, r"Unsupported logs diagnostics scope 'x'\. Supported .*: container, all\."
)
def a_scope_that_there_is_not(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", "/v1/sandboxes/nobody/diagnostics/logs?scope=x")
