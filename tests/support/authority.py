"""A certificate authority of a test, and certificates with whatever names a test wants."""

from __future__ import annotations

import datetime as dt
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY = dt.timedelta(days=1)


class Issued(NamedTuple):
    """A certificate and its key, as PEM files."""

    certificate: x509.Certificate
    pem: Path
    key: Path

    @property
    def der(self) -> bytes:
        """The bytes of the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def subject(*names: str) -> x509.Name:
    """A subject with these common names."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


class Authority:
    """Signs certificates. ``pem`` is the file with its own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._name = subject(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.pem = directory / "ca.pem"
        own = (
            self._builder(self._name, self._key.public_key(), 1.0)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def server(self, address: str, *names: str) -> Issued:
        """The certificate of a server at an address, and under names."""
        known = [x509.IPAddress(ip_address(address)), *map(x509.DNSName, names)]
        return self.issue("server", known, usage=ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, *uris: str, name: str = "client", days: float = 1.0) -> Issued:
        """The certificate of a client with URIs as its names; with ``days`` below zero it has ended."""
        return self.issue(name, [x509.UniformResourceIdentifier(uri) for uri in uris], days=days)

    def issue(
        self,
        name: str | x509.Name,
        names: Sequence[x509.GeneralName] = (),
        *,
        days: float = 1.0,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> Issued:
        """A certificate with a subject and alternative names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject(name) if isinstance(name, str) else name, key.public_key(), days)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        stem = self._directory / f"{certificate.serial_number:x}"
        issued = Issued(certificate, stem.with_suffix(".pem"), stem.with_suffix(".key"))
        issued.pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued

    def revocations(self, path: Path, *revoked: Issued) -> Path:
        """Write the list of what is revoked, as PEM; return its path."""
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, now - DAY, now + DAY)
        for each in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder(each.certificate.serial_number, now - DAY).build()
            )
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey, days: float) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * DAY)
            .not_valid_after(now + days * DAY)
        )
