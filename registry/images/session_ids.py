"""*Session id*: what an upload session that has no row yet says of itself.

Where the store knows its uploads (``capabilities.exclusive_uploads``) a session begins as an empty file and an id. The
id says when the session began and of which address, and is sealed for one repository and one algorithm, so that every
worker of every replica knows the rest without a look at the database. A row follows once bytes are kept between two
requests.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from registry.oci.digest import SUPPORTED_ALGORITHMS

_MACHINE = 64
"""Bits of an IPv6 address that are the network: one machine may have all addresses of it."""
_NOBODY = "0"
"""The crowd of sessions whose client's address is not known."""
_ID = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})_([0-9a-f]{16}|[0-9a-f]{8}|0)_(.{32})"
)


class SessionId(NamedTuple):
    """The parts of an id."""

    text: str
    """All of it."""
    unique: str
    """A UUID of version 7."""
    crowd: str
    """The address that it counts as, in hexadecimal digits."""
    seal: str
    """Binds the rest to a repository and an algorithm."""

    @classmethod
    def make(cls, repository: str, algorithm: str, address: str | None, now: float) -> SessionId:
        """A new one; ``now`` is in seconds since the epoch. Chance makes it unique, and no client can guess it."""
        unique, crowd = _unique(now), _packed(crowd_of(address))
        seal = _seal(unique, crowd, repository, algorithm)
        return cls(f"{unique}_{crowd}_{seal}", unique, crowd, seal)

    @classmethod
    def parse(cls, text: str) -> SessionId | None:
        """None if it is no id of this kind."""
        found = _ID.fullmatch(text)
        return None if found is None else cls(text, *found.groups())

    def algorithm_in(self, repository: str) -> str | None:
        """What the bytes are hashed with while they come; None if this is no session of ``repository``."""
        for algorithm in SUPPORTED_ALGORITHMS:
            if self.seal == _seal(self.unique, self.crowd, repository, algorithm):
                return algorithm
        return None

    @property
    def began(self) -> float:
        """Seconds since the epoch."""
        return (uuid.UUID(self.unique).int >> 80) / 1000

    @property
    def address(self) -> str:
        """What ``crowd_of`` said of the client's address."""
        if self.crowd == _NOBODY:
            return ""
        packed = bytes.fromhex(self.crowd)
        if len(packed) == _MACHINE // 8:
            return str(IPv6Network((int.from_bytes(packed) << _MACHINE, _MACHINE)))
        return str(IPv4Address(packed))


@lru_cache(maxsize=1024)
def crowd_of(address: str | None) -> str:
    """What counts as one address: a machine has one of IPv4, and a network of 64 bits of IPv6."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), _MACHINE), strict=False))
    return str(found)


@lru_cache(maxsize=1024)
def _packed(crowd: str) -> str:
    if not crowd:
        return _NOBODY
    network = ip_network(crowd)
    return network.network_address.packed[: _MACHINE // 8].hex()


def _unique(now: float) -> str:
    """A UUID of version 7: milliseconds, then 74 random bits."""
    bits = int.from_bytes(os.urandom(10)) | int(now * 1000) << 80
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return str(uuid.UUID(int=bits))


def _seal(unique: str, crowd: str, repository: str, algorithm: str) -> str:
    return hashlib.sha256(f"{unique} {crowd} {algorithm} {repository}".encode()).hexdigest()[:32]
