"""The proxies that are compared, each with its configuration: all keep connections alive both ways, none writes a log.

nginx and Caddy get one fixed upstream: they look nothing up. Ours routes by Host among `ROUTES` sandboxes. All of them
add X-Forwarded-For, -Proto and -Host; nginx and ours also a request id.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.harness import trees

PEERS = Path(__file__).parent.parent / "peers"
ROUTES = 10_000
FEW_ROUTES = 11
SANDBOX = "abc"
"""The id of the sandbox every request is for."""

FORWARDED = """
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Request-ID $request_id;"""


@dataclass(frozen=True, slots=True)
class Rival:
    """One proxy: how it is started between a port and a backend, and how its version is asked."""

    name: str
    command: Callable[[Path, int, int], list[str]]
    version: Callable[[], str]
    environment: Mapping[str, str] = field(default_factory=dict)


def host_header(backend: int) -> str:
    """The Host under which `SANDBOX` answers with its port `backend`."""
    return f"{SANDBOX}-{backend}.sandboxes.example"


def nginx_main(folder: Path, http: str, processes: int = 1) -> list[str]:
    """Writes an nginx configuration and returns the command that runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(
        f"""daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log error;
worker_processes {processes}; worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
    access_log off; server_tokens off; tcp_nodelay on; sendfile on;
    keepalive_requests 1000000000; keepalive_timeout 600;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    client_max_body_size 0;
{http}
}}
"""
    )
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def nginx_proxy(folder: Path, port: int, backend: int, processes: int = 1) -> list[str]:
    """nginx as reverse proxy: streaming both ways, because buffering to disk would measure the disk."""
    return nginx_main(
        folder / "nginx-proxy",
        f"""
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream backend {{ server 127.0.0.1:{backend}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096{" reuseport" if processes > 1 else ""};
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffer_size 16k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
            proxy_read_timeout 3600s;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Host $http_host;{FORWARDED}
        }}
    }}""",
        processes,
    )


def caddy_proxy(folder: Path, port: int, backend: int) -> list[str]:
    """Caddy as reverse proxy: what its one-line configuration does, with enough idle upstream connections."""
    (folder / "Caddyfile").write_text(
        f"""{{
    admin off
    auto_https off
    log {{
        output discard
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{backend} {{
        flush_interval -1
        transport http {{
            keepalive_idle_conns_per_host 512
        }}
    }}
}}
"""
    )
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def gateway(folder: Path, port: int, backend: int, peers: Path = PEERS) -> list[str]:
    """Our data plane with everything on, as the server assembles it."""
    return [sys.executable, str(peers / "gateway_server.py"), str(port), str(backend), str(ROUTES), SANDBOX]


def gateway_of(name: str, tree: Path) -> Rival:
    """The data plane of another checkout, assembled by its own program."""
    command = partial(gateway, peers=tree / "benchmarks" / "peers")
    return Rival(name, command, partial(trees.commit, tree), trees.of(tree))


def two_nginx(folder: Path, port: int, backend: int) -> list[str]:
    """The same with two workers on one port."""
    return nginx_proxy(folder, port, backend, processes=2)


def two_gateways(folder: Path, port: int, backend: int) -> list[str]:
    """Our data plane in two processes on one port."""
    return [sys.executable, str(PEERS / "workers_server.py"), str(port), str(ROUTES), SANDBOX, "2"]


def gateway_of_few(folder: Path, port: int, backend: int) -> list[str]:
    """Our data plane with hardly more routes than are used."""
    return [sys.executable, str(PEERS / "gateway_server.py"), str(port), str(backend), str(FEW_ROUTES), SANDBOX]


def aiohttp_proxy(folder: Path, port: int, backend: int) -> list[str]:
    """What one writes in an afternoon: a handler and a client session."""
    return [sys.executable, str(PEERS / "aiohttp_proxy.py"), str(port), str(backend)]


def asked(*command: str) -> Callable[[], str]:
    """A program's own words about its version."""
    return lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def nginx_version() -> str:
    """nginx tells it on standard error."""
    return subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip()


def python_version(package: str) -> Callable[[], str]:
    """Of an installed Python package, with the interpreter's."""
    code = f"import sys, importlib.metadata as m; print(m.version({package!r}), 'on Python', sys.version.split()[0])"
    return asked(sys.executable, "-c", code)


RIVALS = {
    rival.name: rival
    for rival in (
        Rival("gateway", gateway, python_version("opensandbox-gateway")),
        Rival("nginx", nginx_proxy, nginx_version),
        Rival("caddy", caddy_proxy, asked("caddy", "version")),
        Rival("aiohttp", aiohttp_proxy, python_version("aiohttp")),
    )
}
IN_TWO_PROCESSES = {
    rival.name: rival
    for rival in (
        Rival("gateway", two_gateways, python_version("opensandbox-gateway")),
        Rival("nginx", two_nginx, nginx_version),
    )
}
"""For what has more connections than one process may have open files."""
OF_FEW_ROUTES = {"gateway": Rival("gateway", gateway_of_few, python_version("opensandbox-gateway"))}
NEEDED_PROGRAMS = {"nginx": "nginx-light", "caddy": "caddy", "wrk": "wrk"}


def missing_packages() -> list[str]:
    """Debian packages whose program is not there."""
    return [package for program, package in NEEDED_PROGRAMS.items() if shutil.which(program) is None]


def answering_backend(folder: Path, port: int) -> list[str]:
    """nginx as the sandbox: a small answer, a file of 16 KiB, 1 MiB and 100 MiB, and any upload swallowed."""
    root = folder / "files"
    root.mkdir(parents=True, exist_ok=True)
    for name, size in (("16k", 16 << 10), ("1m", 1 << 20), ("100m", 100 << 20)):
        with (root / name).open("wb") as file:
            file.truncate(size)
    return nginx_main(
        folder / "backend",
        f"""
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {root};
        open_file_cache max=10; default_type application/octet-stream;
        location = / {{ default_type text/plain; return 200 "hello from the sandbox\\n"; }}
        location = /unique {{
            add_header X-Served-As $request_id; add_header Server-Timing "app;dur=$msec";
            default_type text/plain; return 200 "hello from the sandbox\\n";
        }}
        # Answers only once the whole body is here, as an application does: nginx reads it before it asks upstream.
        location = /upload {{
            client_body_buffer_size 101m;
            proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header Connection "";
            proxy_http_version 1.1;
            proxy_pass http://swallowed;
        }}
    }}
    upstream swallowed {{ server unix:{folder}/swallowed.sock; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen unix:{folder}/swallowed.sock;
        location / {{ return 200 "thanks\\n"; }}
    }}""",
    )
