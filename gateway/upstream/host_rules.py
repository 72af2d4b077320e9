"""Which `Host` the program behind a port is sent, as the sandbox's owner has said. Pure.

Programs compare `Host` with one of two things: with `Origin`, which names the public address, or with the address that
they listen at. The first are served as clients ask for them; for the second the owner names the port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PUBLIC: Final = b"public"
"""As the client asked."""
UPSTREAM: Final = b"upstream"
"""The address at which the gateway dials the port."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """What the owner has said of the ports of one sandbox; port 0 stands for every port that is not named."""

    hosts: Mapping[int, bytes] = field(default_factory=dict)
    """Port → PUBLIC, UPSTREAM, or a `Host` (RFC 9110 §7.2) to send as it is."""
    origins: frozenset[int] = frozenset()
    """Ports for which an `Origin` of the public address becomes one of the `Host` that is sent."""

    def host(self, port: int, dialled: bytes, *, default: bytes = PUBLIC) -> bytes:
        """The `Host` to send in place of the client's, or empty; `dialled` is the port's own address."""
        said = self.hosts.get(port) or self.hosts.get(0, default)
        return b"" if said == PUBLIC else dialled if said == UPSTREAM else said

    def moves_origin(self, port: int) -> bool:
        """Whether the `Origin` of the public address follows the `Host`."""
        return port in self.origins or 0 in self.origins


NONE: Final = HostRules()
"""What holds where the owner has said nothing."""
