"""*Challenge*: what a server wants to see before it answers, from WWW-Authenticate (RFC 9110, section 11.6.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_GAP: Final = re.compile(r"[\s,]*")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_EQUALS: Final = re.compile(r"[ \t]*=[ \t]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BARE: Final = re.compile(r'[^\s,"]+')  # more than a token: servers leave out the quotes around addresses
_CREDENTIAL: Final = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_ESCAPED: Final = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """One way in that a server offers."""

    scheme: str
    """In lower case: ``bearer``, ``basic``."""
    parameters: Mapping[str, str]
    """Names in lower case; if a name comes twice, the first one counts."""


def parse_challenges(lines: Iterable[str]) -> list[Challenge]:
    """The challenges of all headers of an answer, in order.

    Several may stand in one header, and values with or without quotes. What cannot be read ends its own header.
    """
    return [challenge for line in lines for challenge in _challenges(line)]


def _challenges(line: str) -> Iterator[Challenge]:
    at = _end_of(_GAP, line, 0)
    while (name := _NAME.match(line, at)) is not None and not _EQUALS.match(line, name.end()):
        parameters: dict[str, str] = {}
        at = _end_of(_CREDENTIAL, line, name.end())
        while (found := _parameter(line, at)) is not None:
            key, value, at = found
            parameters.setdefault(key, value)
        yield Challenge(name[0].lower(), parameters)
        at = _end_of(_GAP, line, at)


def _parameter(line: str, at: int) -> tuple[str, str, int] | None:
    """The parameter that begins here, and where it ends; None if something else does."""
    name = _NAME.match(line, _end_of(_GAP, line, at))
    equals = _EQUALS.match(line, name.end()) if name is not None else None
    if name is None or equals is None:
        return None
    if (quoted := _QUOTED.match(line, equals.end())) is not None:
        return name[0].lower(), _ESCAPED.sub(r"\1", quoted[1]), quoted.end()
    if (bare := _BARE.match(line, equals.end())) is not None:
        return name[0].lower(), bare[0], bare.end()
    return None


def _end_of(pattern: re.Pattern[str], line: str, at: int) -> int:
    found = pattern.match(line, at)
    return at if found is None else found.end()
