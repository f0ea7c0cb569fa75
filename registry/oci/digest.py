"""Digests: the names of content (image-spec, "Digests")."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from registry.oci.errors import DigestInvalid
from registry.oci.escaping import quoted

if TYPE_CHECKING:
    from hashlib import _Hash

_HEX_DIGITS: Final = {"sha256": 64, "sha512": 128}
_HASHERS: Final = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
SUPPORTED_ALGORITHMS: Final[tuple[str, ...]] = tuple(_HEX_DIGITS)
"""Algorithms whose content can be verified; digests of all other algorithms are refused."""

_SUPPORTED = re.compile("|".join(f"{algorithm}:[a-f0-9]{{{length}}}" for algorithm, length in _HEX_DIGITS.items()))
# The separators are single characters outside [a-z0-9], so this cannot backtrack for longer than the text.
_GENERIC = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):[a-zA-Z0-9=_-]+")


class Digest(str):
    """A digest of a supported algorithm, in its canonical text form ``algorithm:encoded``.

    It is a ``str``: it compares, hashes, formats and serialises as its text. Only ``parse``, ``of`` and
    ``from_hasher`` make values that are known to be well-formed.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest written as ``text``.

        Raises:
            DigestInvalid: the text is malformed, or well-formed with an algorithm that is not supported.
        """
        return _parse(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of ``data``.

        Raises:
            DigestInvalid: the algorithm is not supported.
        """
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls.from_hasher(hasher)

    @classmethod
    def from_hasher(cls, hasher: _Hash) -> Digest:
        """The digest of all bytes given to ``hasher``, an object made by ``new_hasher``."""
        return cls(f"{hasher.name}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """``sha256`` or ``sha512``."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The lower-case hexadecimal digits after the colon."""
        return self.partition(":")[2]


def new_hasher(algorithm: str) -> _Hash:
    """A fresh hashlib object of a supported algorithm.

    Raises:
        DigestInvalid: the algorithm is not supported.
    """
    make = _HASHERS.get(algorithm)
    if make is None:
        raise DigestInvalid(_unsupported(algorithm))
    return make()


@lru_cache
def digest_of_nothing(algorithm: str) -> Digest:
    """The digest of no bytes at all.

    Raises:
        DigestInvalid: the algorithm is not supported.
    """
    return Digest.of(b"", algorithm)


def looks_like_digest(text: str) -> bool:
    """Whether a reference is a digest by its form: every digest has a colon, and no tag has one."""
    return ":" in text


# Only well-formed digests are remembered (an exception is not), so the memory is bounded by 4096 short strings.
@lru_cache(maxsize=4096)
def _parse(text: str) -> Digest:
    if _SUPPORTED.fullmatch(text):
        return Digest(text)
    raise DigestInvalid(_complaint(text))


def _complaint(text: str) -> str:
    """What is wrong with a text that is no supported digest."""
    generic = _GENERIC.fullmatch(text)
    if generic is None:
        return f"the digest {quoted(text)} is malformed; it is written algorithm:encoded, as in sha256:<64 hex digits>"
    algorithm = generic[1]
    if algorithm in _HEX_DIGITS:
        expected = f"{_HEX_DIGITS[algorithm]} lower-case hexadecimal digits"
        return f"the digest {quoted(text)} is malformed; after {algorithm}: come {expected}"
    return _unsupported(algorithm)


def _unsupported(algorithm: str) -> str:
    return f"the digest algorithm {quoted(algorithm)} is not supported; use {' or '.join(SUPPORTED_ALGORITHMS)}"
