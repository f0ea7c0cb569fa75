"""Quotation: text of a client made safe to repeat in a message: short, ASCII, without control characters."""

from __future__ import annotations

_LIMIT = 80


def quoted(text: str) -> str:
    """``text`` in quotation marks, cut after 80 characters, everything outside printable ASCII escaped.

    The result can always be encoded, also when ``text`` holds lone surrogates, and cannot forge a line of a log.
    """
    return ascii(text) if len(text) <= _LIMIT else ascii(text[:_LIMIT]) + "..."
