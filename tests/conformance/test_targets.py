"""The request target goes upstream byte for byte, in every way of addressing."""

from __future__ import annotations

import pytest

from tests.conformance.address import FORMS, Form
from tests.conformance.harness import World

TARGETS = [
    b"/",
    b"/hello?a=1&b=2",
    b"/a%2Fb",
    b"/a%2fb%3Fq%23h",
    b"/..",
    b"/../..//x",
    b"/a/./b/../c",
    b"//",
    b"//host/path",
    b"/a//b///c/",
    b"/%2e%2e/%2E",
    b"/;a=b;c",
    b"/a;v=1/b",
    b"/?",
    b"/??",
    b"/?a?b/c",
    b"/?a&&b=&=c",
    b"/?q=a+b%20c",
    b"/?x=#frag",
    b"/x#frag",
    b"/%",
    b"/%zz%1",
    b"/%00",
    b"/%C3%A9/%E9",
    b"/!$&'()*+,-.:@_~[]{}|\\^`<>\"",
    b"/sandboxes",
    b"/v1/sandboxes/other/proxy/1/",
    b"/other/80/x",
    b"/health",
    b"/metrics?x",
    b"/status.ok",
    b"/proxy/8080/",
    b"/http://other.test/",
    b"/?http://other.test/",
    b"/:80/",
    b"/a=b&c",
    b"/" + b"x" * 1000,
    b"/?" + b"y=1&" * 250,
]


@pytest.mark.defect(2)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", TARGETS)
async def test_target(world: World, form: Form, target: bytes) -> None:
    """What the backend gets is what the client wrote behind the address."""
    client = await world.connect()
    answer = await client.ask(form.write(b"GET {path}%b HTTP/1.1\r\n{host}\r\n\r\n" % target))
    assert answer.status == 200
    assert [message.target for message in world.backend.seen] == [target]
