"""Tried inside a sandbox, as root: ways out of a container, and what a container has no business reaching. Prints those
that are open, one a line. Standard library only, for the sandbox's own Python.

Nothing is written, loaded or changed: a file that opens for writing is closed again, a call is made with arguments that
are wrong in a way the kernel looks at only after it has asked who calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {  # x86_64, aarch64
    "bpf": (321, 280), "perf_event_open": (298, 241), "keyctl": (250, 219), "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265), "init_module": (175, 105), "syslog": (103, 116), "quotactl": (179, 60),
    "reboot": (169, 142), "fanotify_init": (300, 262), "userfaultfd": (323, 282),
    "fsopen": (430, 430), "open_tree": (428, 428), "io_uring_setup": (425, 425), "swapon": (167, 224),
}  # fmt: skip
BY_MACHINE = 1 if os.uname().machine == "aarch64" else 0
NEW_USER, NEW_NET, NEW_NS = 0x10000000, 0x40000000, 0x20000
RDONLY, NODEV, REMOUNT, BIND, PRIVATE, REC = 1, 4, 32, 4096, 1 << 18, 16384
DETACH = 2
REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def call(name: str, *arguments: object) -> bool:
    """Whether the kernel got as far as the arguments."""
    ctypes.set_errno(0)
    found = libc.syscall(NUMBERS[name][BY_MACHINE], *arguments)
    return bool(found >= 0) or ctypes.get_errno() not in REFUSED


def must(result: int) -> None:
    """Raises OSError where the kernel refused a step."""
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    encoded = [part.encode() if part is not None else None for part in (source, target, kind)]
    must(libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() if data else None))


def own_mounts() -> None:
    """A mount namespace of this try's own, so that nothing of it is left."""
    must(libc.unshare(NEW_NS))
    mount("none", "/", None, PRIVATE | REC)


def fresh(kind: str, source: str | None = None, data: str | None = None) -> str:
    """A new mount of this file system."""
    own_mounts()
    place = tempfile.mkdtemp()
    mount(source or kind, place, kind, 0, data)
    return place


def writes(path: str) -> bool:
    os.close(os.open(path, os.O_WRONLY))
    return True


def core_pattern_behind(step: Callable[[], None]) -> bool:
    own_mounts()
    step()
    return writes("/proc/sys/kernel/core_pattern")


def first_disk() -> int:
    """The numbers of a disk of the host's."""
    names = [name for name in os.listdir("/sys/class/block") if not name.startswith(("loop", "ram"))]
    with open(f"/sys/class/block/{names[0]}/dev") as file:
        major, minor = file.read().split(":")
    return os.makedev(int(major), int(minor))


def reads_disk() -> bool:
    node = tempfile.mktemp()
    os.mknod(node, 0o600 | stat.S_IFBLK, first_disk())
    return bool(os.read(os.open(node, os.O_RDONLY), 1))


def reads_disk_of_the_host() -> bool:
    place, number = fresh("devtmpfs"), first_disk()
    nodes = [os.path.join(place, name) for name in os.listdir(place)]
    node = next(node for node in nodes if stat.S_ISBLK(os.stat(node).st_mode) and os.stat(node).st_rdev == number)
    return bool(os.read(os.open(node, os.O_RDONLY), 1))


def cgroup_v1() -> bool:
    return writes(os.path.join(fresh("cgroup", data="memory"), "release_agent"))


def cgroup_v2() -> bool:
    return writes(os.path.join(fresh("cgroup2"), "cgroup.procs"))


def sys_writable() -> bool:
    own_mounts()
    mount("none", "/sys", None, REMOUNT | BIND)
    return writes("/sys/kernel/profiling")


def raw_sockets() -> bool:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return True


def hypervisor() -> bool:
    socket.socket(40, socket.SOCK_STREAM).close()
    return True


def bpf_map() -> bool:
    return call("bpf", 0, ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(112)), 128)


def by_handle() -> bool:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 8, 1) + bytes(128))
    return call("open_by_handle_at", os.open("/etc", os.O_RDONLY), handle, 0)


WAYS: dict[str, Callable[[], bool]] = {
    "core_pattern": lambda: writes("/proc/sys/kernel/core_pattern"),
    "core_pattern in a /proc of its own": lambda: writes(fresh("proc") + "/sys/kernel/core_pattern"),
    "core_pattern below its mask": lambda: core_pattern_behind(lambda: must(libc.umount2(b"/proc/sys", DETACH))),
    "core_pattern with its mask remounted": lambda: core_pattern_behind(
        lambda: mount("none", "/proc/sys", None, REMOUNT | BIND)
    ),
    "modprobe": lambda: writes("/proc/sys/kernel/modprobe"),
    "sysrq-trigger": lambda: writes("/proc/sysrq-trigger"),
    "sysrq-trigger in a /proc of its own": lambda: writes(fresh("proc") + "/sysrq-trigger"),
    "kcore": lambda: bool(os.read(os.open("/proc/kcore", os.O_RDONLY), 4)),
    "keys": lambda: bool(os.read(os.open("/proc/keys", os.O_RDONLY), 1)),
    "cgroup files": lambda: writes("/sys/fs/cgroup/memory/cgroup.procs"),
    "release_agent of a cgroup hierarchy": cgroup_v1,
    "a cgroup2 hierarchy": cgroup_v2,
    "/sys": lambda: writes("/sys/kernel/profiling"),
    "/sys remounted": sys_writable,
    "debugfs": lambda: bool(os.listdir(fresh("debugfs"))),
    "a disk": reads_disk,
    "a disk in a devtmpfs": reads_disk_of_the_host,
    "memory": lambda: bool(os.open("/dev/mem", os.O_RDONLY)),
    "a /proc of its own": lambda: bool(os.listdir(fresh("proc"))),
    "tmpfs": lambda: bool(fresh("tmpfs")),
    "user namespace": lambda: bool(libc.unshare(NEW_USER) == 0),
    "network namespace": lambda: bool(libc.unshare(NEW_NET) == 0),
    "bpf": bpf_map,
    "perf_event_open": lambda: call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0),
    "keyctl": lambda: call("keyctl", 0, -3, 0, 0, 0),
    "kexec_load": lambda: call("kexec_load", 0, 1 << 20, 0, 0),
    "open_by_handle_at": by_handle,
    "init_module": lambda: call("init_module", 0, 0, b""),
    "syslog": lambda: call("syslog", 3, ctypes.create_string_buffer(16), 16),
    "quotactl": lambda: call("quotactl", 0x800001 << 8, 0, 0, 0),
    "reboot": lambda: call("reboot", 0, 0, 0, 0),
    "fanotify": lambda: call("fanotify_init", 4, 0),
    "userfaultfd": lambda: call("userfaultfd", 0xFFFF),
    "fsopen": lambda: call("fsopen", b"proc", 0),
    "open_tree": lambda: call("open_tree", -100, b"/", 1),
    "swapon": lambda: call("swapon", b"/nowhere", 0),
    "raw sockets": raw_sockets,
    "sockets to the hypervisor": hypervisor,
}


def tried(way: Callable[[], bool]) -> bool:
    """One way, in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            opened = way()
        except (OSError, StopIteration, IndexError):
            opened = False
        os._exit(0 if opened else 1)
    return os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}\n" for name, way in WAYS.items() if tried(way)))
