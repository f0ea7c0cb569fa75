"""*Bounded*: values of a log event, cut to the size and form that a line can have.

Tests: ``tests/observability/test_logs.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from structlog.typing import EventDict

VALUE_LIMIT = 4096
"""Characters of one value."""
TRACE_LIMIT = 32 << 10
"""Characters of a traceback; its end, which names the error, is kept."""
_TRACES = ("exception", "stack")
_LARGEST = 2**63
"""Integers from here on are no numbers of JSON."""


def bound_values(_logger: object, _name: str, event: EventDict) -> EventDict:
    """The event with every key and value bounded; a processor of structlog."""
    return {
        _cut(str(key), VALUE_LIMIT): bounded(value, TRACE_LIMIT if key in _TRACES else VALUE_LIMIT)
        for key, value in event.items()
    }


def bounded(value: object, limit: int) -> object:
    """``value``, or a text of about ``limit`` characters that stands for it."""
    if isinstance(value, str):
        return _cut(value, limit)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -_LARGEST <= value < _LARGEST else _cut(hex(value), limit)
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):  # nested too deeply, or with text that no UTF-8 can hold
        return _cut(repr(value), limit)
    return value if len(text) <= limit else _cut(text, limit)


def _cut(text: str, limit: int) -> str:
    """The beginning and the end of a long text: an error begins with its subject and ends with its reason."""
    if len(text) <= limit:
        return text
    end = limit // 2
    return f"{text[: limit - end]} ... {len(text) - limit} characters ... {text[-end:]}"
