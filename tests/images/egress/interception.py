"""What others see of the transparent proxy: it takes a moment to be ready, and its authority appears for the sandbox.

No traffic is read; the authority is a fixed one that signs nothing.
"""

import os
import threading
import time

PREFIX = "OPENSANDBOX_EGRESS_MITMPROXY_"
TRUTHY = frozenset({"1", "true", "yes", "y", "on"})
AUTHORITY = "/opt/opensandbox/mitmproxy-ca-cert.pem"
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBqTCCAU+gAwIBAgIUcAB/4Mbdcl9BvbBNPddk35FPhxswCgYIKoZIzj0EAwIw
KTEnMCUGA1UEAwwec3RhbmQtaW4gb2YgdGhlIGVncmVzcyBzaWRlY2FyMCAXDTI2
MTIwMTAzMzcyOVoYDzIxMjYxMTA3MDMzNzI5WjApMScwJQYDVQQDDB5zdGFuZC1p
biBvZiB0aGUgZWdyZXNzIHNpZGVjYXIwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARBBbJFtOrinFQhO2hw9FPgOqSL7b+WO8Rf3sWEu+kZ6wLBPnszLGbXJqJNWep3
X71OKkhYnExTZN1OS28cCzxAo1MwUTAdBgNVHQ4EFgQUFEHb0tkt3C6VBb24fXiV
Nu32RsEwHwYDVR0jBBgwFoAUFEHb0tkt3C6VBb24fXiVNu32RsEwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBHr3Am9u0NQCY0m3rFzrlT/jhlj2LC
HDQOAXkAPV5P9gIhAL2WODJh1jbvKc74NSy+aXa1hyN4LONqAFpE/QZvtHTp
-----END CERTIFICATE-----
"""


def switched_on(name):
    return os.environ.get(PREFIX + name, "").strip().lower() in TRUTHY


class Proxy:
    """Off, or on and after a while ready."""

    def __init__(self):
        self.on, self.insecure, self.ready = switched_on("TRANSPARENT"), switched_on("SSL_INSECURE"), False
        if self.on:
            threading.Thread(target=self.get_ready, daemon=True).start()

    def get_ready(self):
        time.sleep(float(os.environ.get("STAND_IN_MITM_SECONDS", "0.1")))
        os.makedirs(os.path.dirname(AUTHORITY), exist_ok=True)
        with open(AUTHORITY, "w", encoding="ascii") as file:
            file.write(CERTIFICATE)
        os.chmod(AUTHORITY, 0o644)
        self.ready = True
