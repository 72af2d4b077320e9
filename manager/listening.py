"""The address that the server listens on, and what to do where it cannot."""

from __future__ import annotations

import errno
import socket
from typing import Final

from gateway.listener import bind

REMEDIES: Final = {
    errno.EADDRINUSE: "stop what uses the port, or set server.port",
    errno.EACCES: "set server.port to 1024 or above, or grant CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "set server.host to an address of this machine",
}
"""By the number of the system's error."""
OTHER_REMEDY: Final = "set server.host to an address of this machine, or a name that leads to one"


def bind_alone(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Sockets bound to an address that no other program uses; `shared` lets worker processes bind it too.

    Raises OSError when it is taken.
    """
    sockets = bind(host, port)
    if not shared:
        return sockets
    # With SO_REUSEPORT a second server would bind too, so the port is bound without it first: EADDRINUSE shows.
    for sock in sockets:
        sock.close()
    return bind(host, port, reuse_port=True)


def remedy(error: OSError) -> str:
    """What the operator does about an address that cannot be listened on."""
    return REMEDIES.get(error.errno or 0, OTHER_REMEDY)
