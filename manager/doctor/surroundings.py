"""Checks of this machine: the port, files, and DNS names of the server."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import socket
import sqlite3
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from gateway.listener import bind
from manager.doctor.findings import Finding, fail, ok, warn
from manager.listening import REMEDIES
from manager.open_files import connections, needed
from manager.runtime.docker.host.topology import find_place
from manager.services.public_host import bracketed, configured_host, public_host
from manager.settings.model import Settings

LEAST_DISK: Final = 200 * 1024 * 1024
"""Bytes that should be free where the store is."""
PROBE: Final = "opensandbox-doctor"
ANSWER_TIME: Final = 3.0
_HELD: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def base_url(settings: Settings) -> str:
    """Where the server is reached from this machine."""
    host = _ANY.get(settings.server.host, settings.server.host)
    scheme = "http" if settings.server.tls.certificate is None else "https"
    return f"{scheme}://{bracketed(host)}:{settings.server.port}"


def unchecked_tls() -> ssl.SSLContext:
    """A TLS context for our own server on this machine, whose certificate has its public name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_port(settings: Settings, answer_time: float = ANSWER_TIME) -> Finding:
    """The port is free, or a server of ours answers there already, within `answer_time` seconds."""
    host, port = settings.server.host, settings.server.port
    try:
        for sock in bind(host, port):
            sock.close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        if taken and settings.server.proxy_protocol:
            return warn(
                "port", f"{host}:{port} is taken; who speaks no PROXY protocol cannot ask whether by this server"
            )
        status = _health(base_url(settings), answer_time) if taken else None
        if status is not None:
            return ok("port", f"{host}:{port}: a server answers there, {status}")
        return fail("port", f"{host}:{port}: {error.strerror}", REMEDIES.get(error.errno or 0))
    return ok("port", f"{host}:{port} is free")


def _health(url: str, answer_time: float) -> str | None:
    """What the server at `url` says of itself; None when it is no server of ours."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=answer_time, context=unchecked_tls()) as answer:
            status = json.load(answer)["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(status)


def check_store(settings: Settings, lock_time: float = ANSWER_TIME) -> Finding:
    """The SQLite file can be written, or made; a lock is waited for `lock_time` seconds."""
    file = Path(settings.store.path).expanduser()
    if file.exists():
        return _existing_store(file, lock_time)
    parent = next(folder for folder in file.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return fail("store", f"{file} cannot be made: {parent} is not writable", "set store.path, or change its owner")
    return _room(file, parent, "will be made")


def _existing_store(file: Path, lock_time: float) -> Finding:
    if not file.is_file() or not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
        return fail("store", f"{file} is not writable", "set store.path, or change the owner of file and directory")
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=lock_time)) as connection:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        # A long-held lock is that of our own running server, which has read it at its start.
        verdict = "ok" if error.sqlite_errorcode in _HELD else str(error)
    if verdict != "ok":
        remedy = f"move {file} away and start again; sandboxes are found again, renewed lifetimes and snapshots are not"
        return fail("store", f"{file} is damaged: {verdict}", remedy)
    return _room(file, file.parent, "is there")


def _room(file: Path, folder: Path, state: str) -> Finding:
    free = shutil.disk_usage(folder).free
    if free < LEAST_DISK:
        return warn("store", f"{file} {state}, but only {free // 2**20} MiB are free below {folder}", "make room")
    return ok("store", f"{file} {state}")


def check_open_files(settings: Settings) -> Finding:
    """The limit of open files that holds once the server has raised it allows the configured connections."""
    most = settings.gateway.limits.max_connections
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= needed(most):
        return ok("open files", f"limit {hard}, enough for {most} connections")
    enough = connections(hard)
    remedy = f"LimitNOFILE={needed(most)} in the unit, or set gateway.limits.max_connections = {max(enough, 1)}"
    return warn("open files", f"limit {hard}: enough for {enough} connections", remedy)


def check_names(settings: Settings) -> Iterator[Finding]:
    """The host names in endpoints resolve, as seen from this machine."""
    if settings.ingress.mode != "gateway":
        remedy = "set docker.host_ip, or server.eip"
        if configured_host(settings) is None and find_place().own_network:
            yield warn("names", "endpoints carry the host that each caller asked for; others may need another", remedy)
        else:
            yield _name(public_host(settings).strip("[]"), "the host of direct endpoints", remedy)
        return
    gateway = settings.ingress.gateway
    wildcard = gateway.wildcard_domain
    if wildcard is not None:
        yield _wildcard(wildcard.domain)
    if gateway.route.mode != "wildcard" and gateway.address:
        host = gateway.address.partition("/")[0].rpartition(":")[0] or gateway.address
        yield _name(host.strip("[]"), "the address of endpoints", "make it known to DNS, or change the address")
    for host in gateway.api_hosts:
        yield _name(host, "a host of the API", "make it known to DNS, or remove it from ingress.gateway.api_hosts")


def _wildcard(domain: str) -> Finding:
    name = f"{PROBE}-8080.{domain}"
    found = resolve(name)
    if found:
        return ok("names", f"*.{domain} leads to {', '.join(found)}")
    if domain.rpartition(".")[2] == "localhost":
        remedy = "elsewhere send the Host header, or use another route mode"
        return ok("names", f"*.{domain}: browsers and curl know it by themselves; {remedy}")
    remedy = f"add a DNS record *.{domain} with the address clients reach this server by"
    return warn("names", f"*.{domain} does not resolve here ({name} was asked for)", remedy)


def _name(host: str, what: str, remedy: str) -> Finding:
    found = resolve(host)
    if found:
        return ok("names", f"{host}, {what}, leads to {', '.join(found)}")
    return warn("names", f"{host}, {what}, does not resolve here", remedy)


def resolve(name: str) -> list[str]:
    """The addresses of a name, none when it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(address[0]) for *_, address in found})
