"""*Cached file*: the bytes of one object with what proves each block of them, and says of which object they are.

Its bytes come first, then a sum for each block, then the footer: so no block is given that was not compared with what
was hashed when the file was made, whatever the disk did since. A file that is cut short has no footer.

Tests: ``tests/storage/middleware/tiered/test_directory.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from registry.storage.driver import ObjectStat

if TYPE_CHECKING:
    from pathlib import Path

BLOCK: Final = 64 << 10
"""Bytes that are proven together, and so the least that is read."""
_SUM: Final = 16
_MAGIC: Final = b"stowage1"
_TAIL: Final = struct.Struct(">8sQI16s")
"""Magic, bytes of the object, bytes of its description, sum of the description."""
_MOST_DESCRIBED: Final = 8 << 10
_TOUCH_SECONDS: Final = 60
"""How exactly it is known when a file was used last."""


class DamagedFile(Exception):
    """The file is not what was kept: nothing of it is believed."""


class Origin(NamedTuple):
    """The object whose bytes a file has."""

    digest: str
    """Hexadecimal digits of their SHA-256."""
    key: str
    stat: ObjectStat


def block_sum(block: bytes | bytearray | memoryview) -> bytes:
    """What proves a block."""
    return sha256(block).digest()[:_SUM]


def file_bytes(size: int) -> int:
    """Bytes of the file of an object of ``size`` bytes, at most."""
    return size + _blocks(size) * _SUM + _MOST_DESCRIBED + _TAIL.size


def footer(origin: Origin) -> bytes:
    """The end of the file, behind the sums of the blocks. Raises ValueError where a key is too long for it."""
    key, stat = origin.key, origin.stat
    described = {"digest": origin.digest, "key": key, "etag": stat.etag, "modified": stat.modified}
    description = json.dumps(described).encode()
    if len(description) > _MOST_DESCRIBED:
        raise ValueError("the description of the object is too long")
    return description + _TAIL.pack(_MAGIC, stat.size, len(description), _description_sum(description, stat.size))


@dataclass(slots=True)
class CachedFile:
    """An open file whose end is right, and whose blocks are looked at when they are read. Any thread."""

    descriptor: int
    origin: Origin

    @classmethod
    def open(cls, path: Path) -> CachedFile:
        """Raises FileNotFoundError, OSError, DamagedFile."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            origin = _origin(descriptor, found.st_size)
            now = time.time_ns()
            if now - found.st_atime_ns > _TOUCH_SECONDS * 10**9:
                with contextlib.suppress(OSError):  # a file system that is read only by now
                    os.utime(descriptor, ns=(now, found.st_mtime_ns))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, origin)

    def read_blocks(self, first: int, buffer: memoryview) -> None:
        """Fill the buffer from the block ``first`` on: with whole blocks, of which the last of the object may be short.

        Raises OSError, and DamagedFile where one of them is not what was kept; then the buffer holds anything.
        """
        count = _blocks(len(buffer))
        position = 0
        while position < len(buffer):
            done = os.preadv(self.descriptor, [buffer[position:]], first * BLOCK + position)
            if not done:
                raise DamagedFile("it ends early")
            position += done
        sums = os.pread(self.descriptor, count * _SUM, self.origin.stat.size + first * _SUM)
        for number in range(count):
            expected = sums[number * _SUM : (number + 1) * _SUM]
            if block_sum(buffer[number * BLOCK : (number + 1) * BLOCK]) != expected:
                raise DamagedFile(f"block {first + number} has other bytes")

    def close(self) -> None:
        """May be called twice."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _blocks(size: int) -> int:
    return -(-size // BLOCK)


def _description_sum(description: bytes, size: int) -> bytes:
    return block_sum(_MAGIC + size.to_bytes(8, "big") + description)


def _origin(descriptor: int, file_size: int) -> Origin:
    begin = max(0, file_size - _TAIL.size - _MOST_DESCRIBED)
    end = os.pread(descriptor, file_size - begin, begin)
    if len(end) < _TAIL.size:
        raise DamagedFile("it is too short")
    magic, size, described, expected = _TAIL.unpack(end[-_TAIL.size :])
    description = end[-_TAIL.size - described : -_TAIL.size]
    if magic != _MAGIC or expected != _description_sum(description, size):
        raise DamagedFile("its end is not what was written")
    if file_size != size + _blocks(size) * _SUM + described + _TAIL.size:
        raise DamagedFile("it has another size")
    fields: dict[str, Any] = json.loads(description)
    return Origin(fields["digest"], fields["key"], ObjectStat(size, fields["etag"], fields["modified"]))
