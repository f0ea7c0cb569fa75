"""*Broadcast*: a document that a process shows to those that it forks, which read the last one that was written."""

from __future__ import annotations

import hashlib
import os
import struct
from typing import Final

_HEAD: Final = struct.Struct("=Q32s")
"""Bytes of the document, and their SHA-256."""


class Broadcast:
    """Written by the parent alone, read by any process that was forked since it was made.

    It is memory, so that a document is the same for all of them, whatever becomes of the file that it came from.
    """

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("broadcast", os.MFD_CLOEXEC)

    def write(self, document: bytes) -> None:
        """Show a document in place of the one before."""
        data = _HEAD.pack(len(document), hashlib.sha256(document).digest()) + document
        position = 0
        while position < len(data):
            position += os.pwrite(self._descriptor, data[position:], position)

    def read(self) -> bytes | None:
        """The document; None if there is none yet, or another one is being written, of which its writer will tell."""
        head = os.pread(self._descriptor, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return None
        length, digest = _HEAD.unpack(head)
        document = b""
        while len(document) < length:
            more = os.pread(self._descriptor, length - len(document), _HEAD.size + len(document))
            if not more:
                return None
            document += more
        return document if hashlib.sha256(document).digest() == digest else None
