"""End-to-end check of the running server: creates a sandbox, reaches execd inside it, deletes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from yarl import URL

from manager.doctor.findings import Finding, fail, ok
from manager.doctor.surroundings import base_url, unchecked_tls
from manager.domain.sandbox import EXECD_PORT
from manager.settings.model import Settings

API_KEY: Final = "OPEN-SANDBOX-API-KEY"
ENTRYPOINT: Final = ["tail", "-f", "/dev/null"]
LIFETIME: Final = 300
"""The sandbox's timeout in seconds, should this program be killed before it deletes it."""
CREATE_TIME: Final = 600.0
ANSWER_TIME: Final = 15.0
READY_TIME: Final = 20.0
PAUSE: Final = 0.2
_FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError)


class Unexpected(Exception):
    """Raised when a response of the server is not the expected one; the message has what came instead."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client of one server's REST API, with its key."""

    session: aiohttp.ClientSession
    base: str
    headers: Mapping[str, str]

    async def call(self, method: str, path: str, expected: int, body: Any = None, wait: float = ANSWER_TIME) -> Any:
        """The body of the answer. Raises Unexpected for another status."""
        timeout = aiohttp.ClientTimeout(total=wait)
        async with self.session.request(
            method, self.base + path, json=body, headers=self.headers, timeout=timeout
        ) as answer:
            if answer.status != expected:
                raise Unexpected(f"{method} {path}: {answer.status} {(await answer.text())[:300]}")
            return await answer.json() if answer.content_type == "application/json" else None

    async def ping(self, url: str, headers: Mapping[str, str]) -> None:
        """Returns once the address answers 200. Raises Unexpected with the last answer when it does not in time."""
        deadline = time.monotonic() + READY_TIME
        while True:
            told = await self._try(url, headers)
            if told is None:
                return
            if time.monotonic() > deadline:
                raise Unexpected(f"GET {url}: {told}")
            await asyncio.sleep(PAUSE)

    async def _try(self, url: str, headers: Mapping[str, str]) -> str | None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIME)
        try:
            async with self.session.get(URL(url, encoded=True), headers=headers, timeout=timeout) as answer:
                return None if answer.status == 200 else f"{answer.status} {(await answer.text())[:300]}"
        except _FAILURES as error:
            return _said(error)


async def drive(settings: Settings, image: str) -> AsyncIterator[Finding]:
    """One finding per step; the first failure is the last but for the clean-up."""
    key = settings.server.api_key
    headers = {} if key is None else {API_KEY: key.get_secret_value()}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=unchecked_tls())) as session:
        client = Client(session, base_url(settings), headers)
        try:
            health = await client.call("GET", "/health", 200)
        except (*_FAILURES, Unexpected) as error:
            yield fail("server", f"{client.base} does not answer: {_said(error)}", "start it: opensandbox-server")
            return
        if health.get("status") != "healthy":
            yield fail("server", f"{client.base} is {health.get('status')}: {health.get('reason')}")
            return
        yield ok("server", f"{client.base} is healthy")
        async for finding in _life(client, settings, image):
            yield finding


async def _life(client: Client, settings: Settings, image: str) -> AsyncIterator[Finding]:
    started = time.monotonic()
    body = {"image": {"uri": image}, "entrypoint": ENTRYPOINT, "timeout": LIFETIME, "resourceLimits": {}}
    try:
        sandbox = await client.call("POST", "/v1/sandboxes", 202, body, CREATE_TIME)
    except (*_FAILURES, Unexpected) as error:
        yield fail("create", _said(error), "the server's log says more; --image names another image")
        return
    yield ok("create", f"{sandbox['id']} from {image} in {_since(started)}")
    try:
        async for finding in _reach(client, settings, str(sandbox["id"])):
            yield finding
    finally:
        yield await _delete(client, str(sandbox["id"]))


async def _reach(client: Client, settings: Settings, sandbox: str) -> AsyncIterator[Finding]:
    started = time.monotonic()
    try:
        await client.ping(f"{client.base}/v1/sandboxes/{sandbox}/proxy/{EXECD_PORT}/ping", client.headers)
        yield ok("through server", f"execd answers through this server in {_since(started)}")
        endpoint = await client.call("GET", f"/v1/sandboxes/{sandbox}/endpoints/{EXECD_PORT}", 200)
        address, headers = endpoint["endpoint"], dict(endpoint.get("headers") or {})
        if settings.ingress.mode == "gateway":
            # Dialled where we listen, named as the endpoint says: DNS and proxies in front of us are checked elsewhere.
            headers["Host"], _, path = address.partition("/")
            await client.ping(f"{client.base}/{path}{'/' if path else ''}ping", headers)
        else:
            await client.ping(f"http://{address}/ping", headers)
    except (*_FAILURES, Unexpected) as error:
        remedy = "the server's log says why; clients with use_server_proxy=True need only the first of the two ways"
        yield fail("reach", _said(error), remedy)
        return
    yield ok("endpoint", f"execd answers at its endpoint {address}")


async def _delete(client: Client, sandbox: str) -> Finding:
    try:
        await client.call("DELETE", f"/v1/sandboxes/{sandbox}", 204)
        await client.call("GET", f"/v1/sandboxes/{sandbox}", 404)
    except (*_FAILURES, Unexpected) as error:
        return fail(
            "delete", _said(error), f"docker rm -f sandbox-{sandbox}; it expires in {LIFETIME // 60} minutes anyway"
        )
    return ok("delete", f"{sandbox} is gone")


def _said(error: Exception) -> str:
    """The system's own words where the client library wraps them; a timeout has none."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _since(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:.0f} ms"


def client_settings(settings: Settings) -> str:
    """What a client of this server sets, as a program in Python; the key stays where it is."""
    base = URL(base_url(settings))
    proxied = settings.ingress.mode == "direct"
    note = "reaches sandboxes through this port" if proxied else "endpoints lead here already"
    return f"""\
A client on this machine (pip install opensandbox; the key from OPEN_SANDBOX_API_KEY):

    from opensandbox import Sandbox
    from opensandbox.config import ConnectionConfig

    config = ConnectionConfig(
        domain="{base.authority}",
        protocol="{base.scheme}",
        use_server_proxy={proxied},  # {note}
    )
    sandbox = await Sandbox.create("python:3.11-slim", connection_config=config)
"""
