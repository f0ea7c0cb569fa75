"""Strict JSON: documents that every reader understands alike (RFC 8259, with unique names as in RFC 7493, 2.3)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import orjson

_MAXIMUM_CONTAINERS: Final = 500_000
# A manifest of 8 MiB holds at most 80,000 descriptors. "[[],[],..." of that size would take 200 MB of memory.


class StrictJSONError(ValueError):
    """The text is not strict JSON; the message says why."""


def loads(data: bytes) -> Any:  # noqa: ANN401  # any JSON value
    """Decode ``data``.

    Raises:
        StrictJSONError: it is not UTF-8, has a byte order mark, a lone surrogate, NaN, Infinity or a syntax error, an
            object names a member twice, it is nested too deeply (about 1000 levels) or it holds very many objects and
            lists.
    """
    if data.count(b"{") + data.count(b"[") > _MAXIMUM_CONTAINERS:
        raise StrictJSONError(f"more than {_MAXIMUM_CONTAINERS} objects and lists")
    try:
        # orjson is strict where the standard library is lenient (NaN, lone surrogates, depth), and the standard library
        # shows repeated names where orjson keeps the last.
        orjson.loads(data)
        return _DECODER.decode(data.decode())
    except RecursionError as error:
        raise StrictJSONError("nested too deeply") from error
    except StrictJSONError:
        raise
    except ValueError as error:
        raise StrictJSONError(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
    raise StrictJSONError(f"the name {repeated[:80]!a} appears twice in one object")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
