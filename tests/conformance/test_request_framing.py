"""Every request that two parsers could read differently is answered 4xx or 5xx, closed, and never reaches a sandbox."""

from __future__ import annotations

from gateway.http.framing import MAX_CHUNK_LINE
from tests.conformance.address import Form
from tests.conformance.case import Case, every, family, in_each_form
from tests.conformance.harness import World

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\nOpenSandbox-Ingress-To: sb-8080\r\n\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"


def post(lines: bytes, body: bytes = b"") -> bytes:
    return b"POST {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n\r\n%b" % (lines, body)


def get(lines: bytes) -> bytes:
    return b"GET {path}/x HTTP/1.1\r\n{host}\r\n%b\r\n\r\n" % lines


LENGTHS = family(
    "Content-Length",
    [
        Case("with Transfer-Encoding after it", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked", BODY), 400),
        Case("with Transfer-Encoding before it", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5", BODY), 400),
        Case("zero with Transfer-Encoding", post(b"Content-Length: 0\r\nTransfer-Encoding: chunked", BODY), 400),
        Case("with an empty Transfer-Encoding", post(b"Content-Length: 5\r\nTransfer-Encoding:", b"hello"), 400),
        Case(
            "with Transfer-Encoding identity", post(b"Content-Length: 5\r\nTransfer-Encoding: identity", b"hello"), 400
        ),
        Case("two that differ", post(b"Content-Length: 5\r\nContent-Length: 6", b"hello"), 400),
        Case("two that agree", post(b"Content-Length: 5\r\nContent-Length: 5", b"hello"), 400),
        Case("two spellings of the name", post(b"Content-Length: 5\r\ncontent-length: 0", b"hello"), 400),
        Case("list that agrees", post(b"Content-Length: 5, 5", b"hello"), 400),
        Case("list that differs", post(b"Content-Length: 5, 6", b"hello"), 400),
        Case("comma at the end", post(b"Content-Length: 5,", b"hello"), 400),
        Case("plus sign", post(b"Content-Length: +5", b"hello"), 400),
        Case("minus sign", post(b"Content-Length: -5", b"hello"), 400),
        Case("minus zero", post(b"Content-Length: -0"), 400),
        Case("hexadecimal", post(b"Content-Length: 0x5", b"hello"), 400),
        Case("blank inside", post(b"Content-Length: 5 5", b"hello"), 400),
        Case("underscore inside", post(b"Content-Length: 1_0", b"hellohello"), 400),
        Case("letters after it", post(b"Content-Length: 5a", b"hello"), 400),
        Case("fraction", post(b"Content-Length: 5.0", b"hello"), 400),
        Case("exponent", post(b"Content-Length: 1e1", b"hellohello"), 400),
        Case("parameter", post(b"Content-Length: 5;x=1", b"hello"), 400),
        Case("quoted", post(b'Content-Length: "5"', b"hello"), 400),
        Case("empty", post(b"Content-Length:", b"hello"), 400),
        Case("blank", post(b"Content-Length:  \t", b"hello"), 400),
        Case("more than 64 bits", post(b"Content-Length: 18446744073709551621", b"hello"), 400),
        Case("forty digits", post(b"Content-Length: " + b"9" * 40, b"hello"), 400),
        Case("superscript digit", post(b"Content-Length: \xb2", b"hello"), 400),
        Case("full-width digit", post(b"Content-Length: \xef\xbc\x95", b"hello"), 400),
        Case("vertical tab before it", post(b"Content-Length: \x0b5", b"hello"), 400),
        Case("form feed after it", post(b"Content-Length: 5\x0c", b"hello"), 400),
        Case("non-breaking space before it", post(b"Content-Length:\xa05", b"hello"), 400),
        Case("space before the colon", post(b"Content-Length : 5", b"hello"), 400),
        Case("tab before the colon", post(b"Content-Length\t: 5", b"hello"), 400),
        Case("underscore in the name", post(b"Content_Length: 5", b"hello"), 400),
        Case("on a continued line", post(b"X-A: b\r\n Content-Length: 5", b"hello"), 400),
        Case("continued itself", post(b"Content-Length:\r\n 5", b"hello"), 400),
        Case("on a GET, signed", get(b"Content-Length: +0"), 400),
    ],
)

CODINGS = family(
    "Transfer-Encoding",
    [
        Case("twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BODY), 400),
        Case("twice, one identity", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", BODY), 400),
        Case("twice, one obscure", post(b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow", BODY), 400),
        Case("list of chunked", post(b"Transfer-Encoding: chunked, chunked", BODY), 400),
        Case("list ending in identity", post(b"Transfer-Encoding: chunked, identity", BODY), 400),
        Case("list starting with identity", post(b"Transfer-Encoding: identity, chunked", BODY), 400),
        Case("list with an empty member", post(b"Transfer-Encoding: ,chunked", BODY), 400),
        Case("comma at the end", post(b"Transfer-Encoding: chunked,", BODY), 400),
        Case("gzip", post(b"Transfer-Encoding: gzip", BODY), 400),
        Case("gzip and chunked", post(b"Transfer-Encoding: gzip, chunked", BODY), 400),
        Case("chunked and gzip", post(b"Transfer-Encoding: chunked, gzip", BODY), 400),
        Case("identity", post(b"Transfer-Encoding: identity", BODY), 400),
        Case("unknown", post(b"Transfer-Encoding: cow", BODY), 400),
        Case("xchunked", post(b"Transfer-Encoding: xchunked", BODY), 400),
        Case("chunkedx", post(b"Transfer-Encoding: chunkedx", BODY), 400),
        Case("chunk", post(b"Transfer-Encoding: chunk", BODY), 400),
        Case("parameter", post(b"Transfer-Encoding: chunked;q=1", BODY), 400),
        Case("quoted", post(b'Transfer-Encoding: "chunked"', BODY), 400),
        Case("single quotes", post(b"Transfer-Encoding: 'chunked'", BODY), 400),
        Case("empty", post(b"Transfer-Encoding:", BODY), 400),
        Case("blank", post(b"Transfer-Encoding:  ", BODY), 400),
        Case("vertical tab before it", post(b"Transfer-Encoding: \x0bchunked", BODY), 400),
        Case("form feed before it", post(b"Transfer-Encoding: \x0cchunked", BODY), 400),
        Case("NUL before it", post(b"Transfer-Encoding: \x00chunked", BODY), 400),
        Case("NUL after it", post(b"Transfer-Encoding: chunked\x00", BODY), 400),
        Case("non-breaking space before it", post(b"Transfer-Encoding: \xa0chunked", BODY), 400),
        Case("byte 0xff after it", post(b"Transfer-Encoding: chunked\xff", BODY), 400),
        Case("carriage return before it", post(b"Transfer-Encoding: \rchunked", BODY), 400),
        Case("space before the colon", post(b"Transfer-Encoding : chunked", BODY), 400),
        Case("tab before the colon", post(b"Transfer-Encoding\t: chunked", BODY), 400),
        Case("space before the name", post(b" Transfer-Encoding: chunked", BODY), 400),
        Case("tab before the name", post(b"\tTransfer-Encoding: chunked", BODY), 400),
        Case("on a continued line", post(b"X-A: b\r\n\tTransfer-Encoding: chunked", BODY), 400),
        Case("continued itself", post(b"Transfer-Encoding:\r\n chunked", BODY), 400),
        Case("continued list", post(b"Transfer-Encoding: chunked,\r\n identity", BODY), 400),
        Case("after a bare line feed", post(b"X-A: b\nTransfer-Encoding: chunked", BODY), 400),
        Case("after a bare carriage return", post(b"X-A: b\rTransfer-Encoding: chunked", BODY), 400),
        Case("underscore in the name", post(b"Transfer_Encoding: chunked", BODY), 400),
        Case("byte 0xa0 before the name", post(b"\xa0Transfer-Encoding: chunked", BODY), 400),
        Case("byte 0xff before the name", post(b"\xffTransfer-Encoding: chunked", BODY), 400),
        Case("NUL in the name", post(b"Transfer-\x00Encoding: chunked", BODY), 400),
        Case("no colon", post(b"Transfer-Encoding chunked", BODY), 400),
        Case("in HTTP/1.0", b"POST {path}/x HTTP/1.0\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY, 400),
    ],
)


def line(first: bytes, rest: bytes = b"\r\n{host}\r\n\r\n") -> bytes:
    return first + rest


LINES = family(
    "request line",
    [
        Case("two spaces before the target", line(b"GET  {path}/x HTTP/1.1"), 400),
        Case("two spaces before the version", line(b"GET {path}/x  HTTP/1.1"), 400),
        Case("space in the target", line(b"GET {path}/x y HTTP/1.1"), 400),
        Case("space at the beginning", line(b" GET {path}/x HTTP/1.1"), 400),
        Case("space at the end", line(b"GET {path}/x HTTP/1.1 "), 400),
        Case("tab between", line(b"GET\t{path}/x HTTP/1.1"), 400),
        Case("tab in the target", line(b"GET {path}/x\ty HTTP/1.1"), 400),
        Case("no version", line(b"GET {path}/x"), 400),
        Case("nothing but a method", line(b"GET"), 400),
        Case("no target", line(b"GET  HTTP/1.1"), 400),
        Case("version in lower case", line(b"GET {path}/x http/1.1"), 400),
        Case("version with space", line(b"GET {path}/x HTTP /1.1"), 400),
        Case("version of two digits", line(b"GET {path}/x HTTP/1.10"), 400),
        Case("version without a point", line(b"GET {path}/x HTTP/11"), 400),
        Case("version 1.2", line(b"GET {path}/x HTTP/1.2"), 505),
        Case("version 0.9", line(b"GET {path}/x HTTP/0.9"), 505),
        Case("version 2.0", line(b"GET {path}/x HTTP/2.0"), 505),
        Case("another protocol", line(b"GET {path}/x RTSP/1.0"), 400),
        Case("ICE", line(b"GET {path}/x ICE/1.0"), 400),
        Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        Case("method in lower case", line(b"get {path}/x HTTP/1.1"), 501),
        Case("method in mixed case", line(b"Get {path}/x HTTP/1.1"), 501),
        Case("unknown method", line(b"FOO {path}/x HTTP/1.1"), 501),
        Case("known method and more", line(b"GETX {path}/x HTTP/1.1"), 501),
        Case("CONNECT", line(b"CONNECT gateway.test:443 HTTP/1.1"), 501),
        Case("method with a bad character", line(b"G@T {path}/x HTTP/1.1"), 400),
        Case("method with NUL", line(b"G\x00T {path}/x HTTP/1.1"), 400),
        Case("target with NUL", line(b"GET {path}/x\x00y HTTP/1.1"), 400),
        Case("target with DEL", line(b"GET {path}/x\x7f HTTP/1.1"), 400),
        Case("target with UTF-8", line(b"GET {path}/\xc3\xa9 HTTP/1.1"), 400),
        Case("target with byte 0xff", line(b"GET {path}/\xff HTTP/1.1"), 400),
        Case("target that is no path", line(b"GET x HTTP/1.1"), 400),
        Case("target that is a query", line(b"GET ?x HTTP/1.1"), 400),
        Case("target * for GET", line(b"GET * HTTP/1.1"), 400),
        Case("absolute target of another host", line(b"GET http://other.test{path}/x HTTP/1.1"), 400),
        Case("absolute target with a user", line(b"GET http://gateway.test@other.test{path}/x HTTP/1.1"), 400),
        Case("absolute target of another port", line(b"GET http://gateway.test:81{path}/x HTTP/1.1"), 400),
        Case("absolute target of another scheme", line(b"GET ftp://gateway.test{path}/x HTTP/1.1"), 400),
        Case("absolute target without host", line(b"GET http:///x HTTP/1.1"), 400),
        Case("bare LF", b"GET {path}/x HTTP/1.1\n{host}\r\n\r\n", 400),
        Case("bare CR", b"GET {path}/x HTTP/1.1\r{host}\r\n\r\n", 400),
        Case("two CRs", b"GET {path}/x HTTP/1.1\r\r\n{host}\r\n\r\n", 400),
        Case("LF and CR", b"GET {path}/x HTTP/1.1\n\r{host}\r\n\r\n", 400),
        Case("bare LF before it", b"\nGET {path}/x HTTP/1.1\r\n{host}\r\n\r\n", 400),
        Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        Case(
            "PROXY protocol, not asked for",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(b"X-A: b"),
            400,
        ),
        Case("UTF-8 mark", b"\xef\xbb\xbfGET {path}/x HTTP/1.1\r\n{host}\r\n\r\n", 400),
    ],
)

FIELDS = family(
    "header lines",
    [
        Case("no colon", get(b"X-A"), 400),
        Case("no name", get(b": x"), 400),
        Case("space in the name", get(b"X A: b"), 400),
        Case("space before the colon", get(b"X-A : b"), 400),
        Case("tab before the colon", get(b"X-A\t: b"), 400),
        Case("NUL in the name", get(b"X\x00A: b"), 400),
        Case("byte 0x80 in the name", get(b"X\x80A: b"), 400),
        Case("byte 0xe9 in the name", get(b"Caf\xe9: b"), 400),
        Case("UTF-8 in the name", get(b"Caf\xc3\xa9: b"), 400),
        *(Case(f"character {chr(code)} in the name", get(b"X%cA: b" % code), 400) for code in b'"(),/;<=>?@[\\]{}'),
        *(
            Case(f"control character {code:#04x} in the value", get(b"X-A: b%cc" % code), 400)
            for code in (*range(9), *range(11, 13), *range(14, 32), 127)
        ),
        Case("bare CR in the value", get(b"X-A: b\rc"), 400),
        Case("bare LF between", get(b"X-A: b\nX-C: d"), 400),
        Case("LF and CR between", get(b"X-A: b\n\rX-C: d"), 400),
        Case("two CRs between", get(b"X-A: b\r\r\nX-C: d"), 400),
        Case("continued with a space", get(b"X-A: b\r\n c"), 400),
        Case("continued with a tab", get(b"X-A: b\r\n\tc"), 400),
        Case("continued with nothing", get(b"X-A: b\r\n "), 400),
        Case("continued from the request line", b"GET {path}/x HTTP/1.1\r\n X-A: b\r\n{host}\r\n\r\n", 400),
        Case("end with bare LFs", b"GET {path}/x HTTP/1.1\r\n{host}\n\n", 400),
        Case("end with LF before CRLF", b"GET {path}/x HTTP/1.1\r\n{host}\n\r\n", 400),
        Case("end with CR CR LF", b"GET {path}/x HTTP/1.1\r\n{host}\r\n\r\r\n\r\n", 400),
        *(
            Case(f"{name.decode()} with an underscore", get(name + b": x"), 400)
            for name in (
                b"OpenSandbox_Ingress_To",
                b"OPEN_SANDBOX_INGRESS",
                b"OpenSandbox_Secure-Access",
                b"OPEN_SANDBOX_API_KEY",
                b"X_Forwarded_For",
                b"X-Forwarded_Host",
                b"X_Forwarded_Proto",
                b"X_Real_IP",
                b"X_Request_ID",
            )
        ),
        Case("Connection names Host", get(b"Connection: host"), 400),
        Case(
            "Connection names Content-Length", post(b"Content-Length: 5\r\nConnection: content-length", b"hello"), 400
        ),
        Case(
            "Connection names Transfer-Encoding",
            post(b"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding", BODY),
            400,
        ),
        Case("unknown expectation", get(b"Expect: 200-maybe"), 400),
    ],
)

HOST_LINE = b"GET /sandboxes/sb/proxy/8080/x HTTP/1.1\r\n%b\r\nOpenSandbox-Ingress-To: sb-8080\r\n\r\n"
HOSTS = family(
    "Host",
    [
        Case("missing", b"GET /sandboxes/sb/proxy/8080/x HTTP/1.1\r\nOpenSandbox-Ingress-To: sb-8080\r\n\r\n", 400),
        Case("twice", HOST_LINE % b"Host: gateway.test\r\nHost: other.test", 400),
        Case("twice the same", HOST_LINE % b"Host: gateway.test\r\nHost: gateway.test", 400),
        Case("twice in other case", HOST_LINE % b"Host: gateway.test\r\nhOST: gateway.test", 400),
        Case("empty", HOST_LINE % b"Host:", 400),
        Case("blank", HOST_LINE % b"Host:  ", 400),
        Case("list", HOST_LINE % b"Host: gateway.test, other.test", 400),
        Case("space inside", HOST_LINE % b"Host: gateway.test x", 400),
        Case("tab inside", HOST_LINE % b"Host: gateway\t.test", 400),
        Case("slash", HOST_LINE % b"Host: gateway.test/x", 400),
        Case("backslash", HOST_LINE % b"Host: gateway.test\\x", 400),
        Case("user", HOST_LINE % b"Host: user@gateway.test", 400),
        Case("scheme", HOST_LINE % b"Host: http://gateway.test", 400),
        Case("query", HOST_LINE % b"Host: gateway.test?x", 400),
        Case("fragment", HOST_LINE % b"Host: gateway.test#x", 400),
        Case("port with letters", HOST_LINE % b"Host: gateway.test:8o80", 400),
        Case("port with sign", HOST_LINE % b"Host: gateway.test:+80", 400),
        Case("port of six digits", HOST_LINE % b"Host: gateway.test:123456", 400),
        Case("two ports", HOST_LINE % b"Host: gateway.test:80:81", 400),
        Case("IPv6 without brackets", HOST_LINE % b"Host: ::1", 400),
        Case("half a bracket", HOST_LINE % b"Host: [::1", 400),
        Case("letters in brackets", HOST_LINE % b"Host: [gateway]", 400),
        Case("UTF-8", HOST_LINE % b"Host: caf\xc3\xa9.test", 400),
        Case("NUL, encoded", HOST_LINE % b"Host: gateway%00.test", 400),
        Case("letter, encoded", HOST_LINE % b"Host: g%61teway.test", 400),
        Case("letter, encoded, as a sandbox's", HOST_LINE % b"Host: s%62-8080.sandbox.test", 400),
        Case("semicolon", HOST_LINE % b"Host: gateway.test;x", 400),
        Case("asterisk", HOST_LINE % b"Host: *.test", 400),
        Case("ampersand", HOST_LINE % b"Host: gateway.test&x=y", 400),
        Case("parentheses", HOST_LINE % b"Host: (gateway.test)", 400),
        Case("empty label", HOST_LINE % b"Host: gateway..test", 400),
        Case("dot first", HOST_LINE % b"Host: .gateway.test", 400),
        Case("dots alone", HOST_LINE % b"Host: ..", 400),
        Case("zone of an address", HOST_LINE % b"Host: [fe80::1%25eth0]", 400),
        Case("IPv4 in brackets", HOST_LINE % b"Host: [127.0.0.1]", 400),
        Case("quotes", HOST_LINE % b'Host: "gateway.test"', 400),
        Case("angle brackets", HOST_LINE % b"Host: <gateway.test>", 400),
        Case("space before the colon", HOST_LINE % b"Host : gateway.test", 400),
        Case("continued", HOST_LINE % b"Host: gateway.test\r\n .evil", 400),
        Case("underscore twin beside it", HOST_LINE % b"Host: gateway.test\r\nHost : other.test", 400),
    ],
)


async def refuse(world: World, raw: bytes, status: int) -> None:
    client = await world.connect()
    await client.send(raw + SMUGGLED)
    answer = await client.message()
    assert answer.status == status
    assert answer.one(b"connection") == b"close"
    assert await client.until_end() == b""
    assert world.backend.connections == 0


@in_each_form
@every(LENGTHS)
async def test_content_length(world: World, case: Case, form: Form) -> None:
    """A length that is not one plain decimal number, alone, is refused."""
    await refuse(world, form.write(case.raw), case.status)


@in_each_form
@every(CODINGS)
async def test_transfer_encoding(world: World, case: Case, form: Form) -> None:
    """A transfer coding other than exactly one `chunked` is refused."""
    await refuse(world, form.write(case.raw), case.status)


@in_each_form
@every(LINES)
async def test_request_line(world: World, case: Case, form: Form) -> None:
    """A request line is method, target and version with one space between, ended by CR LF."""
    await refuse(world, form.write(case.raw), case.status)


@in_each_form
@every(FIELDS)
async def test_header_lines(world: World, case: Case, form: Form) -> None:
    """A header line is a token, a colon and visible text, never continued and never a twin of one of ours."""
    await refuse(world, form.write(case.raw), case.status)


@every(HOSTS)
async def test_host(world: World, case: Case) -> None:
    """There is one valid Host, in whatever way the sandbox is addressed."""
    await refuse(world, case.raw, case.status)


CHUNKS = family(
    "chunked request body",
    [
        Case("size with plus sign", b"+5\r\nhello\r\n0\r\n\r\n", 400),
        Case("size with minus sign", b"-5\r\nhello\r\n0\r\n\r\n", 400),
        Case("size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", 400),
        Case("size empty", b"\r\nhello\r\n0\r\n\r\n", 400),
        Case("size no number", b"g\r\nhello\r\n0\r\n\r\n", 400),
        Case("size with a space before", b" 5\r\nhello\r\n0\r\n\r\n", 400),
        Case("size with a space after", b"5 \r\nhello\r\n0\r\n\r\n", 400),
        Case("size with a tab after", b"5\t\r\nhello\r\n0\r\n\r\n", 400),
        Case("size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n", 400),
        Case("size of more than 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", 400),
        Case("size of very many digits", b"0" * 300 + b"5\r\nhello\r\n0\r\n\r\n", 400),
        Case("size ended by LF", b"5\nhello\r\n0\r\n\r\n", 400),
        Case("size ended by CR", b"5\rhello\r\n0\r\n\r\n", 400),
        Case("size ended by CR CR LF", b"5\r\r\nhello\r\n0\r\n\r\n", 400),
        Case("size with NUL", b"5\x00\r\nhello\r\n0\r\n\r\n", 400),
        Case("extension ended by LF", b"5;a=b\nhello\r\n0\r\n\r\n", 400),
        Case("extension with LF inside", b'5;a="\n"\r\nhello\r\n0\r\n\r\n', 400),
        Case("extension with NUL", b"5;\x00\r\nhello\r\n0\r\n\r\n", 400),
        Case("extension without name", b"5;\r\nhello\r\n0\r\n\r\n", 400),
        Case("extension that never ends", b"5;a=" + b"b" * MAX_CHUNK_LINE + b"\r\nhello\r\n0\r\n\r\n", 400),
        Case("data longer than its size", b"5\r\nhelloo\r\n0\r\n\r\n", 400),
        Case("data shorter than its size", b"6\r\nhello\r\n0\r\n\r\n", 400),
        Case("data ended by LF", b"5\r\nhello\n0\r\n\r\n", 400),
        Case("data ended by nothing", b"5\r\nhello0\r\n\r\n", 400),
        Case("data ended by LF CR", b"5\r\nhello\n\r0\r\n\r\n", 400),
        Case("end with LF", b"5\r\nhello\r\n0\n\n", 400),
        Case("end with LF in its last line", b"5\r\nhello\r\n0\r\n\n", 400),
        Case("end with a signed zero", b"5\r\nhello\r\n-0\r\n\r\n", 400),
        Case("trailer without colon", b"5\r\nhello\r\n0\r\nX-A\r\n\r\n", 400),
        Case("trailer with space before the colon", b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n", 400),
        Case("trailer continued", b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n", 400),
        Case("trailer with bare LF", b"5\r\nhello\r\n0\r\nX-A: b\nX-C: d\r\n\r\n", 400),
        Case("trailer with NUL", b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n", 400),
        Case("trailer with a bad name", b"5\r\nhello\r\n0\r\nX\xe9: b\r\n\r\n", 400),
        Case("trailers of 20 kB", b"5\r\nhello\r\n0\r\nX-A: " + b"b" * 20000 + b"\r\n\r\n", 400),
    ],
)


@in_each_form
@every(CHUNKS)
async def test_chunked_body(world: World, case: Case, form: Form) -> None:
    """A malformed chunked body is refused, and what the sandbox has got of it never becomes whole."""
    client = await world.connect()
    await client.send(form.write(post(b"Transfer-Encoding: chunked")) + case.raw + SMUGGLED)
    answer = await client.message()
    assert answer.status == case.status
    assert await client.until_end() == b""
    assert all(message.target == b"/x" and not message.complete for message in world.backend.seen)
