"""Session ids: what an upload session that has no row yet says of itself.

Where the store knows its uploads (``capabilities.exclusive_uploads``) a session begins as an empty file and an id. The
name of the file, a UUID, says when the session began and of which address or account. The client's id adds a seal for
repository and algorithm, so that every worker knows the rest without a look at the database. A row follows once bytes
are kept between two requests; from then on the UUID alone is the id, as former releases know it.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from registry.oci.digest import SUPPORTED_ALGORITHMS

RESOLUTION = 0.001
"""Seconds that an id may say less than when its session began."""
ACCOUNT = "account "
"""Begins what the sessions of an account count as."""
_MACHINE = 64
"""Bits of an IPv6 address that are the network: one machine may have all addresses of it."""
_CROWD = 32
"""Bits of a UUID that tell whose it is: all of IPv4, or a hash of a network of IPv6 or of an account."""
_RANDOM = 40
"""Bits of a UUID that no client can guess."""
_VARIANT = 62
"""The bit at which RFC 9562 has the variant of a UUID."""
_VERSION = 76
_TIME = 80
_UNKNOWN, _IPV4, _IPV6, _ACCOUNT = range(4)
_UNIQUE = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(rf"({_UNIQUE})_([0-9a-f]{{32}})")
_LENGTH = 36 + 1 + 32
"""Characters of an id; a longer text is not looked at, nor remembered."""
_is_unique = re.compile(_UNIQUE).fullmatch


class Origin(NamedTuple):
    """When a session that began without a row did so, and whose it is."""

    began: float
    """Seconds since the epoch, in whole milliseconds."""
    address: str
    """What it counts as, an address or an account; "" if it is not known."""


class SessionId(NamedTuple):
    """The id of a session that may have no row."""

    unique: str
    """A UUID of version 7, under which the store has it, and the row if there is one."""
    seal: str
    """Binds it to a repository and an algorithm."""

    @classmethod
    def make(cls, repository: str, algorithm: str, crowd: str, now: float) -> SessionId:
        """A new one; ``now`` is in seconds since the epoch. Chance makes it unique, and no client can guess it.

        ``crowd`` is what it counts as, by ``crowd_of``.
        """
        unique = _unique(*_crowd(crowd), now)
        return cls(unique, _seal(unique, repository, algorithm))

    @classmethod
    def parse(cls, text: str) -> SessionId | None:
        """None if it is no id of this kind."""
        return _parse(text) if len(text) == _LENGTH else None

    @property
    def text(self) -> str:
        """As the client has it."""
        return f"{self.unique}_{self.seal}"

    def algorithm_in(self, repository: str) -> str | None:
        """What the bytes are hashed with while they come; None if this is no session of ``repository``."""
        for algorithm in SUPPORTED_ALGORITHMS:
            if self.seal == _seal(self.unique, repository, algorithm):
                return algorithm
        return None


def noted(upload_id: str) -> str:
    """The id of the same session as soon as there is a row of it."""
    session = SessionId.parse(upload_id)
    return upload_id if session is None else session.unique


@lru_cache(maxsize=4096)
def origin_of(unique: str) -> Origin | None:
    """None for the id of a session that had a row from its beginning."""
    if not _is_unique(unique):
        return None
    bits = int(unique.replace("-", ""), 16)
    payload = (bits >> 64 & 0xFFF) << _VARIANT | bits & (1 << _VARIANT) - 1
    kind, crowd = payload >> _CROWD + _RANDOM, (payload >> _RANDOM) & (1 << _CROWD) - 1
    return Origin((bits >> _TIME) / 1000, _address(kind, crowd))


@lru_cache(maxsize=4096)
def crowd_of(address: str | None, account: str | None = None) -> str:
    """What counts as one client: an account; else a machine, which has one address of IPv4 or 64 bits of IPv6.

    "" if neither is known.
    """
    if account is not None:
        return f"{ACCOUNT}{account}"
    try:
        found = ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found), _MACHINE), strict=False))
    return str(found)


@lru_cache(maxsize=1024)
def _crowd(crowd: str) -> tuple[int, int]:
    """The kind of what a session counts as, and the bits that tell it."""
    if not crowd:
        return _UNKNOWN, 0
    is_account = crowd.startswith(ACCOUNT)
    if is_account or "/" in crowd:
        return _ACCOUNT if is_account else _IPV6, int.from_bytes(hashlib.sha256(crowd.encode()).digest()[: _CROWD // 8])
    return _IPV4, int(IPv4Address(crowd))


@lru_cache(maxsize=1024)
def _address(kind: int, crowd: int) -> str:
    told = {_IPV4: f"{IPv4Address(crowd)}", _IPV6: f"IPv6 network {crowd:08x}", _ACCOUNT: f"{ACCOUNT}{crowd:08x}"}
    return told.get(kind, "")


def _unique(kind: int, crowd: int, now: float) -> str:
    """A UUID of version 7: milliseconds, then 74 bits, which tell the address and are random."""
    payload = (kind << _CROWD | crowd) << _RANDOM | int.from_bytes(os.urandom(_RANDOM // 8))
    high, low = payload >> _VARIANT, payload & (1 << _VARIANT) - 1
    bits = int(now * 1000) << _TIME | 7 << _VERSION | high << 64 | 2 << _VARIANT | low
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@lru_cache(maxsize=4096)
def _parse(text: str) -> SessionId | None:
    found = _ID.fullmatch(text)
    return None if found is None else SessionId(*found.groups())


@lru_cache(maxsize=4096)
def _seal(unique: str, repository: str, algorithm: str) -> str:
    return hashlib.sha256(f"{unique} {algorithm} {repository}".encode()).hexdigest()[:32]
