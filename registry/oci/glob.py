"""*Glob*: a pattern of repositories, as rules have it, with the claims of an identity put in.

``*`` is any text within one segment, ``**`` any number of whole segments: at the end at least one, so that ``team/**``
is what is below ``team``. ``{claim}`` is the literal value of a claim, which has to be the name of a repository.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from registry.oci.name import is_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    Claims = Mapping[str, str | tuple[str, ...]]

_TOKEN = re.compile(r"\{(?P<claim>[^{}]+)\}|(?P<all>\*\*)|(?P<some>\*)|(?P<slash>/)|(?P<text>[^{}*/]+)")


class Glob:
    """Immutable; any thread."""

    def __init__(self, pattern: str) -> None:
        """``pattern`` is one that the check of the settings has passed."""
        self.pattern = pattern
        self.claims = frozenset(found["claim"] for found in _TOKEN.finditer(pattern) if found["claim"])
        """Names of the claims that it puts in."""

    def matches(self, repository: str, claims: Claims) -> bool:
        """Whether a repository matches for an identity with these claims."""
        literal = self._literal(claims)
        return literal is not None and _compiled(literal).fullmatch(repository) is not None

    def prefix(self, claims: Claims) -> str | None:
        """What the name of every repository that matches begins with; None if none does."""
        literal = self._literal(claims)
        return None if literal is None else literal.partition("*")[0]

    def _literal(self, claims: Claims) -> str | None:
        """The pattern with the values of claims; None if one is missing, or is no name."""
        literal = self.pattern
        for name in self.claims:
            value = claims.get(name)
            if not isinstance(value, str) or not is_name(value):
                return None
            literal = literal.replace(f"{{{name}}}", value)  # a name has no bracket, so that none is put into another
        return literal


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    tokens = list(_TOKEN.finditer(pattern))
    for position, token in enumerate(tokens):
        if token["all"]:
            parts.append(".+" if position == len(tokens) - 1 else "(?:[^/]+/)*")
        elif token["some"]:
            parts.append("[^/]*")
        elif token["slash"]:
            parts.append("" if position and tokens[position - 1]["all"] else "/")
        else:
            parts.append(re.escape(token[0]))
    return re.compile("".join(parts))


@lru_cache(maxsize=4096)
def text_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of text, as of a claim or a tag, in which ``*`` is any text."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
