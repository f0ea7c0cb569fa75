"""*Password hash*: what a htpasswd file stores of a password: bcrypt or argon2id, and nothing else."""

from __future__ import annotations

import hashlib
import re
from typing import Final, Literal, NamedTuple, Self

import argon2
import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from registry.oci.errors import Unavailable

BCRYPT_BYTES: Final = 72
"""Bytes of a password that bcrypt looks at."""
BCRYPT_COST: Final = 10
MAX_BCRYPT_COST: Final = 16
"""A verification takes some ten seconds then; at 31 it would take days, and every login waits for it."""
MAX_BYTES: Final = 1024
"""Bytes of a password; argon2id looks at them all."""
MAX_MEMORY: Final = 1 << 20
"""KiB that one verification may take."""
MAX_PASSES: Final = 64
"""Passes over that memory, and lanes of it."""
LEAST_MEMORY: Final = 8
LEAST_SALT: Final = 8
LEAST_RESULT: Final = 16
"""Bytes (RFC 9106, 3.1)."""

Scheme = Literal["argon2id", "bcrypt"]

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_ARGON2ID = re.compile(r"\$argon2id\$v=19\$m=[0-9]{1,9},t=[0-9]{1,9},p=[0-9]{1,9}\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+")
_ARGON2 = argon2.PasswordHasher()


class PasswordHash(NamedTuple):
    """One that can be verified: ``parse`` and ``make`` return no other."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, in words without the hash."""
        if bcrypt_hash := _BCRYPT.fullmatch(text):
            if int(bcrypt_hash[1]) > MAX_BCRYPT_COST:
                raise ValueError(f"the bcrypt hash has a cost of more than {MAX_BCRYPT_COST}")
        else:
            if not _ARGON2ID.fullmatch(text):
                raise ValueError("the hash is neither bcrypt ($2a$, $2b$, $2y$) nor argon2id ($argon2id$)")
            _check_cost(text)
        return cls(text)

    @classmethod
    def make(cls, password: str, scheme: Scheme) -> Self:
        """The hash of a new password. Raises ValueError for one that could not be told from every other."""
        secret = password.encode()
        if not secret or "\0" in password:
            raise ValueError("the password is empty or has a NUL")
        most = BCRYPT_BYTES if scheme == "bcrypt" else MAX_BYTES
        if len(secret) > most:
            raise ValueError(f"the password has more than {most} bytes, and {scheme} looks at no more")
        if scheme == "bcrypt":
            return cls(bcrypt.hashpw(secret, bcrypt.gensalt(BCRYPT_COST)).decode())
        return cls(_ARGON2.hash(secret))

    def verify(self, password: str) -> bool:
        """Whether it is the hash of this password. Takes a tenth of a second or so.

        Raises Unavailable where there is no memory for it.
        """
        secret = password.encode()
        if len(secret) > MAX_BYTES:
            return False
        if self.text.startswith("$2"):
            # As bcrypt itself did before it refused them: hashes of longer passwords that are in files stay good.
            return bcrypt.checkpw(secret[:BCRYPT_BYTES], self.text.encode())
        try:
            return _ARGON2.verify(self.text, secret)
        except VerifyMismatchError:
            return False
        except VerificationError as error:
            raise Unavailable("the password cannot be checked now; try again shortly") from error

    @property
    def version(self) -> str:
        """16 hex digits that tell this hash from the one before it, and nothing of the password."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def _check_cost(text: str) -> None:
    try:
        cost = argon2.extract_parameters(text)
    except InvalidHashError as error:
        raise ValueError("the argon2id hash is cut or has parameters of no meaning") from error
    if not (LEAST_MEMORY <= cost.memory_cost <= MAX_MEMORY and 1 <= cost.time_cost <= MAX_PASSES):
        raise ValueError(f"the argon2id hash takes more than {MAX_MEMORY} KiB or {MAX_PASSES} passes, or none")
    if not (1 <= cost.parallelism <= MAX_PASSES and _is_long_enough(cost)):
        raise ValueError("the argon2id hash has too many lanes, or a salt or a result that is too short")


def _is_long_enough(cost: argon2.Parameters) -> bool:
    return cost.salt_len >= LEAST_SALT and cost.hash_len >= LEAST_RESULT
