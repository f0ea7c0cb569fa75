"""*htpasswd*: a file with a user and the hash of its password in each line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.auth.passwords.password_hash import PasswordHash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Users = Mapping[str, PasswordHash]
    """The users of a file."""

LONGEST_USER: Final = 255
"""Characters."""
RESERVED: Final = frozenset({"anonymous", "authenticated"})
"""Names that mean something else in a rule."""


def parse_htpasswd(document: bytes) -> Users:
    """The users of a file. Raises ValueError, which names the first line that is wrong, and no hash."""
    users: dict[str, PasswordHash] = {}
    for number, line in lines_of(document):
        user, _, text = line.partition(":")
        try:
            check_user(user)
            stored = PasswordHash.parse(text)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if user in users:
            raise ValueError(f"line {number}: the user is there already")
        users[user] = stored
    return users


def lines_of(document: bytes) -> Iterator[tuple[int, str]]:
    """Each line with a user, with its number; empty ones and comments are left out. Raises ValueError."""
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"line {document[: error.start].count(10) + 1}: it is no UTF-8") from error
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            yield number, bare


def check_user(user: str) -> None:
    """Raises ValueError for what cannot be the name of a user."""
    if not 0 < len(user) <= LONGEST_USER:
        raise ValueError(f"the user has no name, or one of more than {LONGEST_USER} characters")
    if ":" in user or user.startswith("#") or user != user.strip() or not user.isprintable():
        raise ValueError("the name of the user has a colon, begins with #, or has characters that are not seen")
    if user in RESERVED:
        raise ValueError(f"{user} means something else in rules, and cannot be a user")
