"""One JSON line per exchange, made only when the log is on; never a token, a query or a credential."""

from __future__ import annotations

import json
import logging
import random

log = logging.getLogger("gateway.access")


class AccessLog:
    """Writes a line for each exchange, or for a sample of them."""

    __slots__ = ("_sample",)

    def __init__(self, sample: float = 1.0) -> None:
        self._sample = sample

    def write(
        self,
        *,
        request_id: bytes,
        peer: bytes,
        method: bytes,
        target: bytes,
        form: str,
        sandbox: bytes,
        port: int,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        upstream_seconds: float | None,
        aborted: bool,
    ) -> None:
        """`target` is what the sandbox got, so without a signature; it is cut at its query, which may hold secrets.

        `upstream_seconds` is from the request's going to the sandbox to the head of its answer; None without one.
        `status` is 0 when nothing was answered.
        """
        if self._is_left_out():
            return
        line = {
            "request_id": request_id.decode("latin-1"),
            "client": peer.decode("latin-1"),
            "method": method.decode("latin-1"),
            "path": target.partition(b"?")[0].decode("latin-1"),
            "form": form,
            "sandbox": sandbox.decode("latin-1"),
            "port": port,
            "status": status,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "duration_ms": round(seconds * 1000, 3),
            "upstream_ms": None if upstream_seconds is None else round(upstream_seconds * 1000, 3),
            "aborted": aborted,
        }
        log.info("%s", _text(line))

    def write_refused(self, *, request_id: bytes, peer: bytes, status: int, code: str) -> None:
        """The line of a malformed request: client, status and code, and nothing of its bytes."""
        if self._is_left_out():
            return
        line = {
            "request_id": request_id.decode("latin-1"),
            "client": peer.decode("latin-1"),
            "status": status,
            "code": code,
        }
        log.info("%s", _text(line))

    def _is_left_out(self) -> bool:
        return self._sample < 1.0 and random.random() >= self._sample


def _text(line: dict[str, object]) -> str:
    """JSON of printable ASCII: the library leaves out one control character."""
    return json.dumps(line).replace("\x7f", "\\u007f")
