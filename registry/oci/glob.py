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

_CLAIM = re.compile(r"\{([^{}]+)\}")


class Glob:
    """Immutable; any thread."""

    def __init__(self, pattern: str) -> None:
        """``pattern`` is one that the check of the settings has passed."""
        self.pattern = pattern
        self.claims = frozenset(_CLAIM.findall(pattern))
        """Names of the claims that it puts in."""

    def matches(self, repository: str, claims: Claims) -> bool:
        """Whether a repository matches for an identity with these claims."""
        literal = self._literal(claims)
        return literal is not None and _compiled(literal).fullmatch(repository) is not None

    def prefix(self, claims: Claims) -> str | None:
        """What the name of every repository that matches begins with; None if none does."""
        literal = self._literal(claims)
        return None if literal is None else literal.partition("*")[0]

    @property
    def expression(self) -> str:
        """A regular expression of Python for the whole name of what matches, for a pattern without claims."""
        return _compiled(self.pattern).pattern

    @property
    def plain_expression(self) -> str:
        """As ``expression``, for PostgreSQL, which does not go back and needs not be told where not to."""
        return self.expression.replace("(?>", "(?:").replace("*?", "*")

    @property
    def can_match(self) -> bool:
        """Whether a repository could have a name that matches, for some identity."""
        # No text in place of a star mends what is wrong beside it, and a letter breaks nothing.
        plain = re.sub(r"\{[^{}]+\}|\*+", "x", self.pattern)
        return is_name(plain) or is_name(re.sub(r"^(?:\*\*/)+", "", self.pattern).replace("*", "x"))

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
    """Return an expression that takes time in proportion to the name: what is before a star is found once, the first.

    A later place of it could match nothing more; an expression that tried them all would take hours for a long name.
    """
    groups: list[list[str]] = [[]]
    for segment in pattern.split("/"):
        if segment == "**":
            groups.append([])
        else:
            groups[-1].append(_stars(segment, "[^/]"))
    head, *middle = ("/".join(group) for group in groups)
    if not middle:
        return re.compile(head)
    *middle, tail = middle
    parts = [f"{head}/" if head else ""]
    parts += [f"(?>(?:[^/]+/)*?{group}/)" for group in middle if group]
    parts.append(f"(?:[^/]+/)*{tail}" if tail else ".+")
    return re.compile("".join(parts))


@lru_cache(maxsize=4096)
def text_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of text, as of a claim or a tag, in which ``*`` is any text."""
    return re.compile(_stars(pattern, "."), re.DOTALL)


def _stars(text: str, character: str) -> str:
    """An expression for ``text``, in which a star is any number of these characters."""
    first, *rest = map(re.escape, text.split("*"))
    if not rest:
        return first
    return f"{first}{''.join(f'(?>{character}*?{piece})' for piece in rest[:-1])}{character}*{rest[-1]}"
