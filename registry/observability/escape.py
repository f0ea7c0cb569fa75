"""Escape: text of clients made harmless in lines of the log."""

from __future__ import annotations

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_TABLE = {code: f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" for code in _CONTROLS}  # noqa: PLR2004 - one byte
_TABLE |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def escape_controls(text: str) -> str:
    """The text on one line: control characters, line separators and reversals of direction as escapes."""
    return text if text.isascii() and text.isprintable() else text.translate(_TABLE)
