"""*Escaping*: text of clients made harmless in messages and in lines of the log."""

from __future__ import annotations

_LIMIT = 80
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_TABLE = {code: f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" for code in _CONTROLS}  # noqa: PLR2004 - one byte
_JSON = {code: f"\\u{code:04x}" for code in _CONTROLS if code > 0x7E}  # noqa: PLR2004 - those below JSON escapes itself
_TABLE |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


def quoted(text: str) -> str:
    """``text`` in quotation marks, cut after 80 characters, everything outside printable ASCII escaped.

    The result can always be encoded, also when ``text`` holds lone surrogates, and cannot forge a line of a log.
    """
    return ascii(text) if len(text) <= _LIMIT else ascii(text[:_LIMIT]) + "..."


def escape_controls(text: str) -> str:
    """The text on one line: control characters, line separators and reversals of direction as escapes."""
    return text if text.isascii() and text.isprintable() else text.translate(_TABLE)


def escape_json(document: bytes) -> bytes:
    """The same JSON, in whose texts a terminal finds no control character, line separator or reversal of direction."""
    return document if document.isascii() else document.decode().translate(_JSON).encode()
