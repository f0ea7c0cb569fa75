"""*Claims*: what a provider says of an identity, as text that rules compare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST: Final = 500
"""Claims that are looked at."""
DEEPEST: Final = 4
"""Objects within objects, as ``kubernetes.io`` has them."""


def flatten(claims: Mapping[str, Any]) -> dict[str, str | tuple[str, ...]]:
    """The claims by name, those of an object within as ``OBJECT/NAME``: numbers and booleans as JSON writes them.

    A list has the text of each of its elements. A name that comes up twice that way is left out: it says two things.
    """
    found: dict[str, str | tuple[str, ...]] = {}
    twice = set()
    for name, value in _walk(claims, ""):
        if len(found) >= MOST:
            break
        if name in found:
            twice.add(name)
        found[name] = value
    return {name: value for name, value in found.items() if name not in twice}


def _walk(claims: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    for name, value in claims.items():
        if isinstance(value, dict):
            if prefix.count("/") < DEEPEST:
                yield from _walk(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            yield f"{prefix}{name}", tuple(text for each in value if (text := _text(each)) is not None)
        elif (text := _text(value)) is not None:
            yield f"{prefix}{name}", text


def _text(value: object) -> str | None:
    """Return a scalar as text; None for what has none."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, int | float) else None
