"""*Scopes*: what a client asks of the token endpoint (distribution, "Token Scope Documentation").

``repository:NAME:ACTION,ACTION``, where NAME may hold a port: the type ends at the first colon, the actions begin
behind the last. Clients send several as repeated parameters, or in one with spaces between.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST: Final = 100
"""Scopes that are read; a client that asks for more gets a token for the first ones."""
MOST_CHARACTERS: Final = 4 << 10
"""Characters of all that are read."""
REPOSITORY: Final = "repository"
REGISTRY: Final = "registry"
CATALOG: Final = "catalog"
"""The only resource of REGISTRY."""
ALL: Final = "*"
"""As an action: all that the caller may do."""
_CLASS = re.compile(r"\([a-z0-9]+\)\Z")
"""A class of repositories, as in ``repository(plugin)``: it says the same as without."""


class Scope(NamedTuple):
    """A resource, and what the caller wants to do with it."""

    kind: str
    """REPOSITORY, REGISTRY, or what a client made up."""
    name: str
    actions: tuple[str, ...]
    """In the order in which they were asked for, each once."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


def parse_scopes(values: Iterable[str]) -> list[Scope]:
    """The scopes of all parameters together, each resource once; what is none is left out."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for text in _bounded(values):
        kind, _, rest = text.partition(":")
        name, colon, actions = rest.rpartition(":")
        if colon and name:
            wanted = found.setdefault((_CLASS.sub("", kind), name), {})
            wanted.update(dict.fromkeys(filter(None, actions.split(","))))
    return [Scope(kind, name, tuple(actions)) for (kind, name), actions in found.items()]


def _bounded(values: Iterable[str]) -> Iterator[str]:
    count = characters = 0
    for text in (text for value in values for text in value.split(" ") if text):
        count, characters = count + 1, characters + len(text)
        if count > MOST or characters > MOST_CHARACTERS:
            return
        yield text
