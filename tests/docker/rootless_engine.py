"""A Docker Engine that runs without root, as Debian's scripts start it, in namespaces of an ordinary user.

The user is `nobody`, who has subordinate ids in a mount namespace of the test's own only; there /dev/net/tun is open to
everybody too, as it is on most machines.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.docker.own_engine import FIRST_ID, Daemon

SCRIPTS = "/usr/share/docker.io/contrib"
TUN = "/dev/net/tun"
USER, GROUP = "nobody", "nogroup"
PROGRAMS = ("dockerd", "rootlesskit", "slirp4netns", "newuidmap", "newgidmap", "setpriv", "unshare")
PREPARE = f"""
mknod "$HOME/tun" c 10 200 && chmod 666 "$HOME/tun" && mount --bind "$HOME/tun" {TUN} &&
touch /etc/subuid /etc/subgid &&
mount --bind "$HOME/subuid" /etc/subuid && mount --bind "$HOME/subgid" /etc/subgid &&
exec setpriv --reuid {USER} --regid {GROUP} --clear-groups "$@"
"""


class RootlessEngine(Daemon):
    """dockerd of an ordinary user, with its socket, data and process files in one directory."""

    def __init__(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="rootless-engine-"))
        super().__init__(home, f"unix://{home}/run/docker.sock")
        (home / "subuid").write_text(f"{USER}:{FIRST_ID}:65536\n")
        (home / "subgid").write_text(f"{GROUP}:{FIRST_ID}:65536\n{USER}:{FIRST_ID}:65536\n")
        (home / "run").mkdir(mode=0o700)
        for folder in (home, home / "run"):
            shutil.chown(folder, USER, GROUP)

    @staticmethod
    def possible() -> bool:
        """Whether this machine can run one."""
        path = f"{os.environ['PATH']}:{SCRIPTS}:/usr/sbin"
        scripts = (*PROGRAMS, "dockerd-rootless.sh")
        return os.geteuid() == 0 and os.path.exists(TUN) and all(shutil.which(name, path=path) for name in scripts)

    def start(self) -> None:
        """Returns once it answers."""
        environment = {
            "PATH": f"{SCRIPTS}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
        }
        dockerd = ("dockerd-rootless.sh", "--data-root", str(self.home / "data"))
        self.launch(["unshare", "--mount", "sh", "-c", PREPARE, "sh", *dockerd], environment)

    def close(self) -> None:
        """Stops it with everything it runs, and removes its files."""
        self.clear()
        self.signal(signal.SIGTERM)
        subprocess.run(["rm", "-rf", str(self.home)], check=True)
