"""Which identity a certificate names, and which certificates name none."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from registry.auth.certificates import MAX_BYTES, Certificates
from registry.auth.groups import Groups
from registry.auth.identity import Kind
from registry.config.access_sections import CertificateSettings
from tests.support.authority import Authority, subject

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

URI, DNS, EMAIL = x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name
HEADER = b"x-client-cert"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def certificates(user: str = "san.uri", **groups: list[str]) -> Certificates:
    given: dict[str, Any] = {"user": user, "header": "X-Client-Cert"}
    return Certificates(CertificateSettings(**given), Groups(groups))


@pytest.mark.parametrize(
    ("user", "name", "names", "expected"),
    [
        ("san.uri", "app", [URI("spiffe://example.org/ci/app")], "spiffe://example.org/ci/app"),
        ("san.uri", "app", [URI("spiffe://example.org/ci"), DNS("ci.example.org")], "spiffe://example.org/ci"),
        ("san.dns", "app", [DNS("Build-1.example.org"), URI("urn:x")], "build-1.example.org"),
        ("san.email", "app", [EMAIL("ci@example.org")], "ci@example.org"),
        ("subject.cn", "Build server 1", [URI("urn:x")], "Build server 1"),
    ],
)
def test_the_field_of_the_settings_names_the_identity(
    authority: Authority, user: str, name: str, names: Sequence[x509.GeneralName], expected: str
) -> None:
    issued = authority.issue(name, names)
    identity = certificates(user, machines=[f"cert:{expected}"]).of_connection(issued.der)
    assert identity is not None
    assert (identity.kind, identity.name, identity.groups) == (Kind.CERTIFICATE, expected, frozenset({"machines"}))
    assert (identity.who, identity.actor) == (f"cert:{expected}", f"cert:{expected}")
    assert len(identity.credential) == 16
    assert identity.until == issued.certificate.not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    ("user", "name", "names"),
    [
        ("san.uri", "app", []),
        ("san.uri", "app", [DNS("ci.example.org")]),
        ("san.uri", "app", [URI("urn:a"), URI("urn:b")]),
        ("san.uri", "app", [URI("urn:a"), URI("urn:a")]),
        ("san.uri", "app", [URI("")]),
        ("san.uri", "app", [URI("urn:a\0b")]),
        ("san.uri", "app", [URI("urn:*")]),
        ("san.uri", "app", [URI(f"urn:{'a' * 600}")]),
        ("san.dns", "app", [DNS("*.example.org")]),
        ("san.dns", "app", [DNS("example.org\0.example.com")]),
        ("san.email", "app", [EMAIL("ci@example.org"), EMAIL("cd@example.org")]),
        ("subject.cn", ("alice", "bob"), []),
        ("subject.cn", (), []),
        ("subject.cn", "alice\0", []),
        ("subject.cn", "alice\n", []),
        ("subject.cn", " alice", []),
        ("subject.cn", "*", []),
        ("subject.cn", "alice\u202e", []),
    ],
)
def test_a_certificate_with_several_names_or_a_mistakable_one_names_none_and_the_log_says_so(
    authority: Authority, user: str, name: str | tuple[str, ...], names: Sequence[x509.GeneralName]
) -> None:
    issued = authority.issue(name if isinstance(name, str) else subject(*name), names)
    found = certificates(user)
    with capture_logs() as logs:
        assert found.of_connection(issued.der) is None
        assert found.of_connection(issued.der) is None
    (line,) = logs  # once, and without a name
    assert line["event"] == "a client certificate names no identity"
    assert "alice" not in str(line)


@pytest.mark.parametrize("der", [b"", b"\x30\x03nonsense", b"\x30" * MAX_BYTES, b"\x30" * (MAX_BYTES + 1)])
def test_what_is_no_certificate_names_none(der: bytes) -> None:
    assert certificates().of_connection(der) is None


def test_a_certificate_in_a_header_is_escaped_pem_or_that_of_rfc_9440(authority: Authority) -> None:
    issued = authority.client("spiffe://example.org/ci")
    escaped = quote(issued.pem.read_bytes(), safe="").encode()
    plain = quote(issued.pem.read_bytes(), safe="+/=: ").encode()
    structured = b":" + b64encode(issued.der) + b":"
    of_connection = certificates().of_connection(issued.der)
    assert of_connection is not None
    for value in (escaped, plain, structured):
        assert certificates().of_headers([(b"host", b"x"), (HEADER, value)]) == of_connection


def test_a_header_that_is_missing_empty_double_large_or_malformed_names_none(authority: Authority) -> None:
    good = quote(authority.client("spiffe://example.org/ci").pem.read_bytes(), safe="").encode()
    found = certificates()
    for values in ([], [b""], [good, good], [good, b""], [b"a" * (MAX_BYTES + 1)], [b"nonsense"], [b":!:"], [b"::"]):
        assert found.of_headers([(HEADER, value) for value in values]) is None
    assert found.of_headers([(b"client-cert", good)]) is None
