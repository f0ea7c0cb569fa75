"""*Certificates*: from the certificate of a client to an identity.

It was verified before: by the handshake of the connection, or by a trusted proxy that passes it on in a header, as
nginx does (``$ssl_client_escaped_cert``: PEM, escaped as in URLs) or as RFC 9440 has it (``:BASE64:``). Here it is only
read. One that has several names, or one that a rule could mistake, names no identity.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from registry.auth.identity import Identity, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from registry.auth.groups import Groups
    from registry.config.access_sections import CertificateSettings

MAX_BYTES: Final = 16 << 10
"""A certificate, or the header that has it, has no more."""
MAX_NAME: Final = 512
"""Characters of a name."""
REMEMBERED: Final = 256
"""Certificates that are not read again, of connections and of headers: up to 8 MiB."""
_NAMES: Final[dict[str, Callable[[x509.SubjectAlternativeName], Sequence[str]]]] = {
    "san.uri": lambda names: names.get_values_for_type(x509.UniformResourceIdentifier),
    "san.dns": lambda names: names.get_values_for_type(x509.DNSName),
    "san.email": lambda names: names.get_values_for_type(x509.RFC822Name),
}

log = structlog.get_logger(__name__)


class Certificates:
    """Any thread."""

    def __init__(self, settings: CertificateSettings, groups: Groups) -> None:
        self.header = None if settings.header is None else settings.header.lower().encode()
        """The header, in lower case, in which trusted proxies pass certificates on; None if they pass none on."""
        self._field = settings.user
        self._groups = groups
        self._of_der = lru_cache(REMEMBERED)(self._read)
        self._of_value = lru_cache(REMEMBERED)(self._read_value)

    def find(self, name: str) -> Identity:
        """The identity of certificates with this name."""
        return Identity(Kind.CERTIFICATE, name, self._groups.of(f"cert:{name}"))

    def of_connection(self, der: bytes) -> Identity | None:
        """The identity that a certificate in DER names, with its end; None if it names none, and the log says why."""
        return self._of_der(der) if len(der) <= MAX_BYTES else _refused("it is too large", der)

    def of_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Identity | None:
        """As ``of_connection``, from the headers of a request of a trusted proxy, with names in lower case."""
        values = [value for name, value in headers if name == self.header]
        if not any(values):
            return None
        if len(values) > 1:
            return _refused("the header is there more than once", values[0])
        (value,) = values
        return self._of_value(value) if len(value) <= MAX_BYTES else _refused("it is too large", value)

    def _read_value(self, value: bytes) -> Identity | None:
        try:
            return self._of_der(_decoded(value))
        except ValueError:
            return _refused("the header has neither escaped PEM nor the form of RFC 9440", value)

    def _read(self, der: bytes) -> Identity | None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            names = _names_of(certificate, self._field)
            until = certificate.not_valid_after_utc.timestamp()
        except (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
            return _refused("it is malformed", der)
        if len(names) != 1:
            return _refused(f"it has {len(names)} values of {self._field}, and one is needed", der)
        name = names[0].lower() if self._field == "san.dns" else names[0]
        if not _is_plain(name):
            return _refused(f"its {self._field} is empty, too long, or has a wildcard or a control character", der)
        return replace(self.find(name), credential=hashlib.sha256(der).hexdigest()[:16], until=until)


def _decoded(value: bytes) -> bytes:
    """The certificate of a header in DER. Raises ValueError."""
    if value.startswith(b":") and value.endswith(b":"):
        return b64decode(value[1:-1], validate=True)
    return x509.load_pem_x509_certificate(unquote_to_bytes(value)).public_bytes(Encoding.DER)


def _names_of(certificate: x509.Certificate, field: str) -> Sequence[str]:
    """All values of a field. Raises ValueError and what cryptography has for a malformed certificate."""
    if field == "subject.cn":
        return [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return _NAMES[field](names)


def _is_plain(name: str) -> bool:
    """Whether a name is one that rules, logs and records can have as it is."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip() and "*" not in name


def _refused(reason: str, data: bytes) -> Identity | None:
    """Say why a certificate names no identity."""
    fingerprint = hashlib.sha256(data).hexdigest()[:16]
    log.warning("a client certificate names no identity", reason=reason, certificate=fingerprint)
    return None
