"""One call of the API: the request with its query and body already read as the models its route declares.

Handlers never read the query or the body themselves, so what the route table declares is what is served and what the
OpenAPI document says.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel

from manager.api.body import read_json
from manager.api.problems import query_values, validate
from manager.api.schemas.base import OptionalBody
from manager.domain.codes import INVALID_PARAMETER
from manager.domain.errors import Invalid, NotFound
from manager.domain.ids import is_id
from manager.services.api_keys import ApiKey
from manager.services.wiring import Services

SERVICES = web.AppKey("services", Services)
SCRAPE: web.AppKey[Callable[[], bytes]] = web.AppKey("scrape")
"""The function that renders the metrics, if there is one."""

DOCUMENT = web.AppKey("document", bytes)
PAGE = web.AppKey("page", str)
"""The OpenAPI document and the page made from it, rendered once."""

KEY = web.RequestKey("key", ApiKey)
"""The request's item that holds the API key it was authenticated with."""

CALLER = web.RequestKey("caller", str)
"""The request's item that holds the name of its API key."""

SUBJECT = web.RequestKey("subject", str)
"""The request's item that holds the id of the created object, for the audit log."""

PREFIX = "/v1"

_WHOLE = re.compile(r"[+-]?[0-9]{1,100}")

Q = TypeVar("Q")
B = TypeVar("B")


class NoQuery(BaseModel):
    """The query of routes that take none; what is sent there is ignored."""


class NoBody(BaseModel):
    """The body of routes that take none; what is sent there is ignored."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """A request whose query is a `Q` and whose body is a `B`."""

    request: web.Request
    services: Services
    query: Q
    body: B

    @property
    def versioned(self) -> bool:
        """Whether the caller used the paths under `/v1`."""
        return self.request.path.startswith(PREFIX + "/")

    @property
    def caller(self) -> str:
        """The name of the key that was presented; empty where no key is asked for."""
        name: str = self.request.get(CALLER, "")
        return name

    @property
    def key(self) -> ApiKey | None:
        """The key that was presented; None where none is asked for."""
        return self.request.get(KEY)

    @property
    def read_only(self) -> bool:
        """Whether the caller's key is read-only."""
        return self.key is not None and self.key.read_only

    @property
    def viewer(self) -> str | None:
        """The name of the caller's key if its scope is "own"; None sees everything."""
        return self.key.name if self.key is not None and self.key.own_only else None

    @property
    def is_welcome(self) -> bool:
        """Whether the caller's key is still valid: streams and long polls end when it is removed."""
        return self.services.keys.still_valid(self.key)

    def sandbox_id(self) -> str:
        """The id in the path; raises NotFound for a text that is none, since no sandbox has it."""
        text = self.request.match_info["id"]
        if not is_id(text):
            raise NotFound(self.services.codes.not_found, f"Sandbox {text[:64]} not found.")
        return text

    def number(self, name: str) -> int:
        """A whole number in the path; raises Invalid."""
        text = self.request.match_info[name]
        if _WHOLE.fullmatch(text) is None:
            raise Invalid(INVALID_PARAMETER, f"{name}: must be a whole number, got {text[:40]!r}")
        return int(text)


Handler = Callable[[Call[Q, B]], Awaitable[web.StreamResponse]]


async def read_call(request: web.Request, query: type[Any], body: type[Any]) -> Call[Any, Any]:
    """Reads what the route declares. Raises Invalid, TooLarge."""
    pairs: dict[str, list[str]] = {}
    for key, value in request.query.items():
        pairs.setdefault(key, []).append(value)
    asked = validate(query, query_values(query, pairs))
    return Call(request, request.app[SERVICES], asked, await _read_body(request, body))


async def _read_body(request: web.Request, model: type[BaseModel]) -> BaseModel:
    if model is NoBody or (issubclass(model, OptionalBody) and not request.can_read_body):
        return model()
    value = await read_json(request)
    return model() if value is None and issubclass(model, OptionalBody) else validate(model, value)


def json_answer(model: BaseModel, status: int = 200) -> web.Response:
    """A model as an answer, null fields left out."""
    text = model.model_dump_json(exclude_none=True, by_alias=True)
    return web.Response(status=status, text=text, content_type="application/json")
