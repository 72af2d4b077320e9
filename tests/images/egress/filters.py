"""The packet filter of the namespace: look-ups are redirected with iptables, addresses are dropped with nft."""

import ipaddress
import os
import subprocess
import threading

import policies

MODES = {"dns": "dns", "dns+nft": "dns+nft", "nft+dns": "dns+nft"}
MODE = MODES.get(os.environ.get("OPENSANDBOX_EGRESS_MODE", "dns"), "dns")
PROXY_PORT = 15353
MARK = 0x1
TABLE = "inet opensandbox"
LEAST, MOST, GRACE = 60, 360, 60
"""Seconds for which an address stays open that a look-up has led to: its time to live and some more, within bounds."""


def run(command, text):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def redirects(exempt, family):
    ends = [f"-p {protocol} --dport 53" for protocol in ("udp", "tcp")]
    host = 32 if family == 4 else 128
    ours = [address for address in exempt if ipaddress.ip_address(address).version == family]
    yield from (f"OUTPUT -d {address}/{host} {end} -j RETURN" for address in ours for end in ends)
    yield from (f"OUTPUT {end} -m mark --mark {MARK:#x} -j RETURN" for end in ends)
    yield from (f"OUTPUT {end} -j REDIRECT --to-ports {PROXY_PORT}" for end in ends)


def restore(verb, exempt):
    """All rules of a family in one transaction."""
    for family, program in ((4, "iptables-restore"), (6, "ip6tables-restore")):
        lines = [f"-{verb} {line}" for line in redirects(exempt, family)]
        run([program, "--noflush"], "\n".join(["*nat", *lines, "COMMIT", ""]))


def redirect(exempt):
    restore("A", exempt)


def exempt():
    return [part.strip() for part in os.environ.get("OPENSANDBOX_EGRESS_NAMESERVER_EXEMPT", "").split(",") if part.strip()]


def remove_redirects():
    """Those of an earlier worker, if there was one."""
    try:
        restore("D", exempt())
    except OSError:
        pass


def remove_all():
    remove_redirects()
    subprocess.run(["nft", "delete", "table", *TABLE.split()], capture_output=True, check=False)


def written(networks):
    return f"elements = {{ {', '.join(map(str, networks))} }}" if networks else ""


def folded(networks, version):
    return list(ipaddress.collapse_addresses(net for net in networks if net.version == version))


def table(policy, always):
    """The whole table as nft reads it; the sets that look-ups fill begin empty."""
    found = [(entry["action"], policies.network(entry["target"])) for entry in policy.rules or ()]
    sets = {
        "deny": [net for action, net in found if net is not None and action == "deny"],
        "allow": [net for action, net in found if net is not None and action == "allow"] + always,
    }
    lines = [f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{"]
    for kind, networks in sets.items():
        for version in (4, 6):
            elements = written(folded(networks, version))
            lines.append(f"set {kind}_v{version} {{ type ipv{version}_addr; flags interval; {elements} }}")
    lines += [f"set dyn_allow_v{version} {{ type ipv{version}_addr; flags timeout; }}" for version in (4, 6)]
    verdict = "accept" if policy.default == "allow" else "drop"
    lines += [
        "chain egress {",
        f"type filter hook output priority 0; policy {verdict};",
        "ct state established,related accept",
        f"meta mark {MARK:#x} accept",
        'oifname "lo" accept',
        "tcp dport 853 drop",
        "udp dport 853 drop",
        "ip daddr @deny_v4 drop",
        "ip6 daddr @deny_v6 drop",
        "ip daddr @dyn_allow_v4 accept",
        "ip6 daddr @dyn_allow_v6 accept",
        "ip daddr @allow_v4 accept",
        "ip6 daddr @allow_v6 accept",
    ]
    lines += ["counter drop"] if verdict == "drop" else []
    return "\n".join([*lines, "}", "}", ""])


class Packets:
    """The nft table, rebuilt with every policy; in mode dns there is none."""

    def __init__(self, state, upstreams, nameservers, exempt):
        addresses = {"127.0.0.1", *nameservers, *(host for host, _ in upstreams), *exempt}
        self.always = [ipaddress.ip_network(address) for address in sorted(addresses)]
        self.state, self.lock = state, threading.Lock()

    def enforce(self, policy):
        if MODE == "dns+nft":
            with self.lock:
                run(["nft", "-f", "-"], table(policy, self.always))

    def open(self, answers):
        """Opens addresses that an allowed name has led to, each for (address, time to live)."""
        if MODE != "dns+nft" or not answers:
            return
        lines = []
        for address, ttl in answers:
            name = f"dyn_allow_v{ipaddress.ip_address(address).version}"
            lines.append(f"add element {TABLE} {name} {{ {address} timeout {min(max(ttl + GRACE, LEAST), MOST)}s }}")
        try:
            with self.lock:
                run(["nft", "-f", "-"], "\n".join([*lines, ""]))
        except OSError as error:
            print(f"egress: {error}", flush=True)
