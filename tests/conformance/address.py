"""The four ways to write the same request, so that every case can run in each of them.

A case is written once, as raw bytes with two marks: `{path}` stands in front of the path and `{host}` is the line, or
the lines, that say where the request goes.
"""

from __future__ import annotations

import enum

from gateway.signing import Signature

SANDBOX = "sb"
PORT = 8080
DOMAIN = b"sandbox.test"
PUBLIC = b"gateway.test"


class Form(enum.Enum):
    """A way of addressing: what stands in front of the path, and the lines that route."""

    HEADER = (b"", b"Host: gateway.test\r\nOpenSandbox-Ingress-To: %(label)b")
    HOST = (b"", b"Host: %(label)b.sandbox.test")
    PROXY = (b"/v1/sandboxes/%(id)b/proxy/%(port)b", b"Host: gateway.test")
    URI = (b"/%(path)b", b"Host: gateway.test")

    def __repr__(self) -> str:
        return self.name.lower()

    def write(self, raw: bytes, id: str = SANDBOX, port: int | str = PORT, signed: Signature | None = None) -> bytes:
        """The bytes of a case in this form, signed where the form can be."""
        parts = [id.encode(), str(port).encode()]
        if signed is not None:
            parts += [signed.expires, signed.value]
        words = {b"id": parts[0], b"port": parts[1], b"label": b"-".join(parts), b"path": b"/".join(parts)}
        path, host = self.value
        return raw.replace(b"{path}", path % words).replace(b"{host}", host % words)

    @property
    def host(self) -> bytes:
        """The value of the Host header in this form."""
        return b"%b-%d.%b" % (SANDBOX.encode(), PORT, DOMAIN) if self is Form.HOST else PUBLIC

    @property
    def prefix(self) -> bytes:
        """What stands in front of the path."""
        return self.write(b"{path}")


FORMS = list(Form)
