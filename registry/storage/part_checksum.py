"""CRC-32C, by which a store finds bytes that were damaged on their way to it."""

from __future__ import annotations

import base64

import google_crc32c

_PIECE = 64 << 10
"""Bytes given to the library at once: copied within the caches of a processor, and no memory is mapped anew."""
IS_FAST = google_crc32c.implementation == "c"
"""Where its library has no compiled code for the machine, a MiB takes a second."""


def crc32c_of(data: bytes | bytearray) -> str:
    """As stores write it: base64 of four bytes. The library takes bytes only: a part is given to it piece by piece."""
    if isinstance(data, bytes):
        value = google_crc32c.value(data)
    else:
        value, view = 0, memoryview(data)
        for begin in range(0, len(view), _PIECE):
            value = google_crc32c.extend(value, bytes(view[begin : begin + _PIECE]))
    return base64.b64encode(value.to_bytes(4, "big")).decode()
