"""Refusals that are about the server and its callers rather than about one sandbox."""

from __future__ import annotations

import contextlib
import sqlite3

import aiohttp
import pytest

from manager.api.body import MAX_BODY_BYTES
from manager.services import policy
from tests.refusals.catalogue import ID, refusal
from tests.refusals.stage import Answer, House, Stage
from tests.refusals.variants import LOOKING_KEY, NARROW_KEY
from tests.server_process import free_port

LIST = "/v1/sandboxes"
STRANGER = "https://evil.example"
MOST_GUESSES = 100


@refusal(
    "MISSING_API_KEY", 401, r"Authentication credentials are missing\. Provide API key via OPEN-SANDBOX-API-KEY .*"
)
def a_call_without_a_key(stage: Stage) -> Answer:
    return stage.house("keyed").call("GET", LIST)


@refusal("INVALID_API_KEY", 401, r"Authentication credentials are invalid\. Check your API key and try again\.")
def a_call_with_a_wrong_key(stage: Stage) -> Answer:
    return stage.house("keyed").call("GET", LIST, OPEN_SANDBOX_API_KEY="wrong")


@refusal("TOO_MANY_FAILED_ATTEMPTS", 429, r"Too many wrong API keys came from your address\. Wait a little, .*")
def a_wrong_key_too_many(stage: Stage) -> Answer:
    house = stage.house("guessed")
    answers = (house.call("GET", LIST, OPEN_SANDBOX_API_KEY=f"guess-{number}") for number in range(MOST_GUESSES))
    return next(answer for answer in answers if answer.status != 401)


@refusal("API_KEY_READ_ONLY", 403, r"The API key 'looking' may only read\.")
def a_change_with_a_key_for_looking(stage: Stage) -> Answer:
    house = stage.house("keyed")
    return house.call("POST", LIST, stage.wish(), OPEN_SANDBOX_API_KEY=LOOKING_KEY)


@refusal("API_KEY_SCOPE", 403, r"The API key 'narrow' sees only what was made with it; this is about the whole .*")
def a_look_at_everything_with_a_key_of_scope_own(stage: Stage) -> Answer:
    return stage.house("keyed").call("GET", "/metrics", OPEN_SANDBOX_API_KEY=NARROW_KEY)


@refusal("ORIGIN_FORBIDDEN", 403, r"Pages of this origin may not call; see server\.cors_origins\.")
def a_preflight_of_a_page_that_is_not_listed(stage: Stage) -> Answer:
    asked = {"Origin": STRANGER, "Access_Control_Request_Method": "POST"}
    return stage.house("keyed").call("OPTIONS", LIST, **asked)


@refusal("CROSS_ORIGIN_FORBIDDEN", 403, r"A page of another origin may not call a server without an API key\. Set .*")
def a_call_of_a_strangers_page(stage: Stage) -> Answer:
    return stage.house("gateway").call("POST", LIST, stage.wish(), Origin=STRANGER)


@refusal("MISDIRECTED_REQUEST", 421, r"This server has no API key, .* 'evil\.example' is none\. .*allowed_hosts.*")
def a_call_under_a_strangers_name(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", LIST, Host="evil.example", Origin="http://evil.example")


@refusal("SANDBOX_CALLER_FORBIDDEN", 403, r"Code inside a sandbox may not call this API, .*allow_sandbox_callers .*")
def a_call_from_inside_a_sandbox(stage: Stage) -> Answer:
    house = stage.house("gateway")
    box = stage.real.inspect_container(f"sandbox-{house.shared_box()[-36:]}")
    inside = next(iter(box["NetworkSettings"]["Networks"].values()))["IPAddress"]
    return house.call("GET", LIST, X_Forwarded_For=inside)


@refusal("INVALID_METADATA_FORMAT", 400, r"Invalid metadata format: .*")
def a_filter_that_is_none(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", f"{LIST}?metadata=novalue")


@refusal("SANDBOX::INVALID_PARAMETER", 400, r"page: must be at least 1, got '0'")
def a_page_before_the_first(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", f"{LIST}?page=0")


@refusal("SANDBOX::API_NOT_SUPPORTED", 400, r"expires: signed endpoints need ingress\.mode = gateway on this server\.")
def a_signed_address_without_a_gateway(stage: Stage) -> Answer:
    house = stage.house("direct")
    return house.call("GET", f"{house.shared_box()}/endpoints/80?expires=4070908800")


@refusal("SERVER::BODY_TOO_LARGE", 413, rf"the body is larger than {MAX_BODY_BYTES} bytes")
def a_body_that_is_too_large(stage: Stage) -> Answer:
    return stage.house("gateway").call("POST", LIST, b" " * (MAX_BODY_BYTES + 1))


@refusal("SERVER::CAPACITY_REACHED", 429, r"server\.max_sandboxes: 1 sandboxes exist; delete one first")
def a_sandbox_too_many(stage: Stage) -> Answer:
    house = stage.house("small")
    house.shared_box()
    return house.create()


@refusal("SERVER::STOPPING", 503, r"the server is stopping; try again shortly")
def a_create_on_a_server_that_stops(stage: Stage) -> Answer:
    house = stage.house("stopping")
    house.services.drain()
    return house.create()


@refusal("SERVER::STORE_UNAVAILABLE", 503, r"the store gateway\.db does not work; it cannot be used \(.*\): .*")
def a_store_that_somebody_broke(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with contextlib.closing(sqlite3.connect(house.store_path)) as store:
        store.execute("ALTER TABLE idempotency RENAME TO lost")
        answer = house.call("POST", LIST, stage.wish(), Idempotency_Key="k")
        store.execute("ALTER TABLE lost RENAME TO idempotency")
    return answer


@refusal("SANDBOX::IDEMPOTENCY_KEY_REUSED", 409, r"Idempotency-Key: was used with another request; a new request .*")
def a_key_for_two_requests(stage: Stage) -> Answer:
    return _again(stage.house("gateway"), deleted=False, timeout=700)


@refusal("SANDBOX::IDEMPOTENCY_KEY_SPENT", 409, rf"Idempotency-Key: sandbox {ID}, made with it, is gone; use a new key")
def a_key_of_what_is_gone(stage: Stage) -> Answer:
    return _again(stage.house("gateway"), deleted=True)


def _again(house: House, *, deleted: bool, **changes: int) -> Answer:
    """The answer to a create whose key was used before; the house forgets the key afterwards."""
    used = {"Idempotency_Key": f"key-{deleted}"}
    made = house.call("POST", LIST, house.stage.wish(), **used)
    path = f"{LIST}/{made.body['id']}"
    if deleted:
        house.call("DELETE", path)
    answer = house.call("POST", LIST, house.stage.wish(**changes), **used)
    house.call("DELETE", path)
    house.stage.run(house.services.records.idempotency.release("", f"key-{deleted}", made.body["id"]))
    return answer


@refusal("GENERAL::NOT_FOUND", 404, r"There is nothing at /v1/nothing; /openapi\.json lists every path\.")
def a_path_that_leads_nowhere(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", "/v1/nothing")


@refusal("GENERAL::METHOD_NOT_ALLOWED", 405, r"PUT is not allowed here; .*GET.* is\.")
def a_method_that_is_not_offered(stage: Stage) -> Answer:
    return stage.house("gateway").call("PUT", LIST)


@refusal("GENERAL::UNKNOWN_ERROR", 500, r"An unexpected error occurred; the server's log holds the details\.")
def a_bug_of_ours(stage: Stage) -> Answer:
    house = stage.house("gateway")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(house.services.sandboxes, "list", None)
        return house.call("GET", LIST)


@refusal("KUBERNETES::POOL_NOT_SUPPORTED", 501, r"Pool management requires the kubernetes runtime\.")
def a_pool_of_another_runtime(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", "/v1/pools")


@refusal("FSB::API_NOT_SUPPORTED", 501, r"Template management requires the kubernetes runtime\.")
def a_template_of_another_runtime(stage: Stage) -> Answer:
    return stage.house("gateway").call("GET", "/v1/templates")


POLICY = {"defaultAction": "allow", "egress": []}


@refusal("SANDBOX::API_NOT_SUPPORTED", 400, rf"Sandbox {ID} was created without a networkPolicy: there is no .*")
def a_policy_of_a_sandbox_without(stage: Stage) -> Answer:
    house = stage.house("gateway")
    return house.call("GET", f"{house.shared_box()}/networkpolicy")


@refusal("BACKEND_CONNECTION_FAILED", 502, rf"The egress sidecar of sandbox {ID} cannot be reached\.")
def a_sidecar_that_does_not_listen(stage: Stage) -> Answer:
    house = stage.house("policed")
    path = house.shared_box(networkPolicy=POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "EGRESS_PORT", free_port())
        patch.setattr(policy, "_PATIENCE", 0.1)
        return house.call("GET", f"{path}/networkpolicy")


@refusal("BACKEND_TIMEOUT", 504, rf"The egress sidecar of sandbox {ID} did not answer in time\.")
def a_sidecar_that_says_nothing(stage: Stage) -> Answer:
    house = stage.house("policed")
    path = house.shared_box(networkPolicy=POLICY)
    with pytest.MonkeyPatch.context() as patch:
        sidecar = f"sandbox-egress-{path[-36:]}"
        stage.real.pause(sidecar)
        patch.setattr(policy, "_LIMITS", aiohttp.ClientTimeout(total=0.5))
        stage.run(house.services.policies.close())
        patch.setattr(house.services.policies, "_session", None)
        answer = house.call("GET", f"{path}/networkpolicy")
        stage.run(house.services.policies.close())
        stage.real.unpause(sidecar)
    return answer


@refusal("BACKEND_CONNECTION_FAILED", 503, rf"Sandbox {ID} is Running: its sidecar has no address\.")
def a_sidecar_that_somebody_removed(stage: Stage) -> Answer:
    house = stage.house("policed")
    path = house.shared_box(networkPolicy=POLICY)
    stage.real.remove_container(f"sandbox-egress-{path[-36:]}", force=True)
    stage.until(lambda: house.call("GET", f"{path}/networkpolicy").status == 503, "notice")
    answer = house.call("GET", f"{path}/networkpolicy")
    house.give_back()
    return answer
