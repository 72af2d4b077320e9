"""The certificate of the listener: which hosts it is for, what is spoken behind it, its renewal while it is used."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from gateway.listener import Certificate
from tests.gateway.certificate import Files

SANDBOX, DEEPER = "abc-80.sandbox.test", "a.b.sandbox.test"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A pair in use."""
    return Files(tmp_path)


@pytest.fixture
def certificate(files: Files) -> Certificate:
    """The listener's."""
    return Certificate(str(files.chain), str(files.key))


def shake(certificate: Certificate, client: ssl.SSLContext, host: str = SANDBOX) -> ssl.SSLObject:
    """A handshake in memory; returns the client's side. Raises what the client makes of the certificate."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=host)
    answering = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering) * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return asking


def trusting(files: Files) -> ssl.SSLContext:
    """A client that knows the certificate and checks it against the host."""
    return ssl.create_default_context(cafile=files.chain)


def careless() -> ssl.SSLContext:
    """A client that takes any."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def shown(certificate: Certificate) -> bytes | None:
    """The certificate that a client gets to see."""
    return shake(certificate, careless()).getpeercert(binary_form=True)


def test_a_wildcard_is_for_every_sandbox(certificate: Certificate, files: Files) -> None:
    """Every host directly under the domain is proved, and no other."""
    assert shake(certificate, trusting(files)).version() in {"TLSv1.2", "TLSv1.3"}
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(certificate, trusting(files), DEEPER)


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
def test_only_http_1_is_offered(certificate: Certificate, offered: list[str], chosen: str | None) -> None:
    """A client that speaks both falls back; one that speaks HTTP/2 only learns that nobody else does."""
    client = careless()
    client.set_alpn_protocols(offered)
    assert shake(certificate, client).selected_alpn_protocol() == chosen


def test_old_versions_are_refused(certificate: Certificate) -> None:
    """Nothing older than TLS 1.2 is spoken."""
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_renewal(certificate: Certificate, files: Files) -> None:
    """New files are used for new connections once they are looked at; what is open goes on."""
    before, opened = shown(certificate), shake(certificate, careless())
    assert not certificate.refresh()
    files.prepare()
    files.replace("chain.pem", "key.pem")
    assert shown(certificate) == before
    assert certificate.refresh()
    assert shown(certificate) != before
    assert opened.getpeercert(binary_form=True) == before
    assert not certificate.refresh()


def test_half_a_renewal(certificate: Certificate, files: Files) -> None:
    """A certificate whose key is still to come changes nothing; with its key it does."""
    before = shown(certificate)
    files.prepare()
    files.replace("chain.pem")
    with pytest.raises(ssl.SSLError):
        certificate.refresh()
    assert shown(certificate) == before
    files.replace("key.pem")
    assert certificate.refresh()
    assert shown(certificate) != before


def test_files_that_are_gone(certificate: Certificate, files: Files) -> None:
    """Files that cannot be read change nothing."""
    before = shown(certificate)
    files.key.unlink()
    with pytest.raises(FileNotFoundError):
        certificate.refresh()
    assert shown(certificate) == before
