"""*Key secret*: the text of an API key, which its holder has and the registry does not.

``stw_``, 32 random bytes and a checksum, in letters and digits: programs that search for lost secrets recognise it and
can tell it from one with a typing error.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from typing import Final, NamedTuple, Self

PREFIX: Final = "stw_"
RANDOM_BYTES: Final = 32
RANDOM_DIGITS: Final = 43
CHECK_DIGITS: Final = 6
DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase

_FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{RANDOM_DIGITS}}})([0-9A-Za-z]{{{CHECK_DIGITS}}})")


class KeySecret(NamedTuple):
    """One whose checksum is right: ``parse`` and ``make`` return no other."""

    text: str

    @classmethod
    def make(cls) -> Self:
        """A new one."""
        body = _in_digits(int.from_bytes(secrets.token_bytes(RANDOM_BYTES)), RANDOM_DIGITS)
        return cls(f"{PREFIX}{body}{_checksum(body)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, in words without the secret."""
        found = _FORM.fullmatch(text)
        if found is None or _checksum(found[1]) != found[2]:
            raise ValueError("it is no API key, or one with a typing error")
        return cls(text)

    @property
    def sha256(self) -> str:
        """What the registry stores: of 2**256 secrets none is found by trying, so that one round is enough."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def key_id(self) -> str:
        """The name of the key, in 16 hex digits: what finds it, in files and in rules."""
        return self.sha256[:16]


def looks_like_key(text: str) -> bool:
    """Whether a password or a token is meant to be a key."""
    return text.startswith(PREFIX)


def _checksum(body: str) -> str:
    return _in_digits(zlib.crc32(body.encode()), CHECK_DIGITS)


def _in_digits(number: int, count: int) -> str:
    digits = []
    for _ in range(count):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))
