#!/usr/bin/env python3
"""Chromium that does not watch the network interfaces; takes the same arguments.

Chromium aborts what it is loading (ERR_NETWORK_CHANGED) whenever an interface of the machine gets an address, and
starting a container makes one. It learns of that from a netlink socket and goes on without where it gets none, so it
gets none: a seccomp filter refuses that one family of sockets.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16
"""Where the kernel's record of a call holds these."""
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EAFNOSUPPORT


def refuse_netlink(call: int) -> None:
    """From now on this process and its children get no netlink sockets. Raises OSError where that is not allowed."""
    program = [
        (LOAD, 0, 0, NUMBER),
        (JUMP_EQUAL, 0, 3, call),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_EQUAL, 0, 1, socket.AF_NETLINK),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    rules = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, rules, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    number = SOCKET_CALL.get(platform.machine())
    if number is not None:
        refuse_netlink(number)
    os.execvp("chromium", ["chromium", *sys.argv[1:]])
