"""The name server of the namespace: a denied name does not exist, an allowed one is asked for upstream."""

import ipaddress
import os
import socket
import struct
import threading

from filters import MARK, PROXY_PORT

LIMIT = float(os.environ.get("OPENSANDBOX_EGRESS_DNS_UPSTREAM_TIMEOUT") or 5)
MOST_UPSTREAMS = 10
PUBLIC = "8.8.8.8"
SO_MARK = 36
A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


def listed(name):
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def exempt():
    return listed("OPENSANDBOX_EGRESS_NAMESERVER_EXEMPT")


def resolv_conf():
    try:
        with open("/etc/resolv.conf", encoding="utf-8") as lines:
            return [line.split()[1] for line in lines if line.startswith("nameserver ") and len(line.split()) > 1]
    except OSError:
        return []


def nameservers():
    """Those of resolv.conf that are no loopback addresses."""
    return [host for host in resolv_conf() if not ipaddress.ip_address(host).is_loopback][:MOST_UPSTREAMS]


def endpoint(text):
    """A literal address with an optional port; a host name is fatal."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.lstrip(":")
    else:
        host, _, port = text.partition(":") if text.count(":") == 1 else (text, "", "")
    return str(ipaddress.ip_address(host)), int(port or 53)


def upstreams():
    told = [endpoint(text) for text in listed("OPENSANDBOX_EGRESS_DNS_UPSTREAM")]
    loopback = [host for host in resolv_conf() if ipaddress.ip_address(host).is_loopback]
    return told or [(host, 53) for host in [*nameservers(), *loopback][:MOST_UPSTREAMS]] or [(PUBLIC, 53)]


def question(query):
    """Name of the first question, and where its section ends."""
    labels, place = [], 12
    while query[place]:
        labels.append(query[place + 1 : place + 1 + query[place]].decode("latin-1"))
        place += 1 + query[place]
    return ".".join(labels), place + 5


def refusal(query, end, code):
    """An answer without records; not even that recursion is offered."""
    flags = 0x8100 | code
    return query[:2] + struct.pack(">HHHHH", flags, 1, 0, 0, 0) + query[12:end]


def skip_name(message, place):
    while message[place]:
        if message[place] & 0xC0 == 0xC0:
            return place + 2
        place += 1 + message[place]
    return place + 1


def addresses(message, end):
    """Addresses and times to live that an answer holds."""
    place, found = end, []
    for _ in range(struct.unpack(">H", message[6:8])[0]):
        place = skip_name(message, place)
        kind, _, ttl, length = struct.unpack(">HHIH", message[place : place + 10])
        data = message[place + 10 : place + 10 + length]
        if kind in (A, AAAA):
            found.append((str(ipaddress.ip_address(data)), ttl))
        place += 10 + length
    return found


def marked(host, kind):
    """A socket that the redirect and the packet filter leave alone."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
    sock.settimeout(LIMIT)
    return sock


def ask(query, upstream, kind):
    with marked(upstream[0], kind) as sock:
        sock.connect(upstream)
        if kind == socket.SOCK_DGRAM:
            sock.send(query)
            return sock.recv(65535)
        sock.sendall(struct.pack(">H", len(query)) + query)
        with sock.makefile("rb") as stream:
            return stream.read(struct.unpack(">H", stream.read(2))[0])


def forward(query, end, kind):
    """The first final answer of an upstream; SERVFAIL when none has one."""
    for upstream in upstreams():
        try:
            told = ask(query, upstream, kind)
        except OSError:
            continue
        if told[3] & 0xF in (NOERROR, NXDOMAIN):
            return told
    return refusal(query, end, SERVFAIL)


def answer(query, kind, state, packets):
    name, end = question(query)
    if not state.policy.allows(name):
        return refusal(query, end, NXDOMAIN)
    told = forward(query, end, kind)
    packets.open(addresses(told, end))
    return told


def serve_datagrams(server, state, packets):
    def one(query, client):
        try:
            server.sendto(answer(query, socket.SOCK_DGRAM, state, packets), client)
        except (IndexError, OSError, struct.error):
            pass

    while True:
        threading.Thread(target=one, args=server.recvfrom(65535), daemon=True).start()


def serve_streams(server, state, packets):
    def one(client):
        with client, client.makefile("rb") as stream:
            try:
                while head := stream.read(2):
                    told = answer(stream.read(struct.unpack(">H", head)[0]), socket.SOCK_STREAM, state, packets)
                    client.sendall(struct.pack(">H", len(told)) + told)
            except (IndexError, OSError, struct.error):
                pass

    while True:
        threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()


def serve(state, packets):
    """Listens on loopback by both protocols."""
    for kind, loop in ((socket.SOCK_DGRAM, serve_datagrams), (socket.SOCK_STREAM, serve_streams)):
        server = socket.socket(socket.AF_INET, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", PROXY_PORT))
        if kind == socket.SOCK_STREAM:
            server.listen(64)
        threading.Thread(target=loop, args=(server, state, packets), daemon=True).start()
