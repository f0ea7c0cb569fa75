"""Large bodies a slice at a time, none of which is copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

SLICE = 256 << 10
"""Bytes that are handed to a connection at once, within the timeout of a connection."""


def slices(
    pieces: Sequence[bytes | bytearray | memoryview], on_sent: Callable[[], object]
) -> Generator[bytes | memoryview]:
    """What is handed to the connection at once; ``on_sent`` is called behind each slice.

    Closed, it keeps no hold of the pieces, whatever has a slice still.
    """
    if sum(map(len, pieces)) <= SLICE:
        yield b"".join(pieces)
        return
    for piece in pieces:
        for begin in range(0, len(piece), SLICE):
            with memoryview(piece) as view, view[begin : begin + SLICE] as part:
                yield part
                on_sent()
