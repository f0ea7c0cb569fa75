"""Byte ranges: those of requested content (RFC 9110, 14) and those of pushed chunks (distribution spec)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from registry.oci.descriptor import MAXIMUM_SIZE
from registry.oci.errors import RangeInvalid
from registry.oci.escaping import quoted

MAXIMUM_RANGES: Final = 1024
"""Most ranges in one request: podman asks for this many when it pulls zstd:chunked layers."""
_MAXIMUM_AMPLIFICATION: Final = 2
"""How often the bytes of a blob may be sent for one request, by ranges that overlap."""

_UNIT = re.compile(r"\s*bytes\s*=", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?\s*([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?")
_DIGITS: Final = 19
# Digits of 2^63-1; a longer number is beyond the end of anything.


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes ``start`` to ``end`` of a blob, both included, counted from 0."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes; at least 1."""
        return self.end - self.start + 1

    def content_range(self, size: int) -> str:
        """The Content-Range header of this part of a blob of ``size`` bytes."""
        return f"bytes {self.start}-{self.end}/{size}"


def parse_range(header: str | None, size: int) -> list[ByteRange] | None:
    """The parts of a blob of ``size`` bytes that a Range header asks for, in its order; None for the whole blob.

    The header is ignored (None), as RFC 9110 allows, when it is absent, has another unit or is malformed; when it has
    more than 1024 ranges; when overlapping ranges would send the blob more than twice; and when a suffix of an empty
    blob is asked for, which is satisfiable and has no Content-Range. Members of a list that cannot be satisfied are
    dropped. A range whose end lies before its start is unsatisfiable here and not malformed: the conformance program
    wants 416.

    Raises:
        RangeInvalid: no range can be satisfied; it carries ``Content-Range: bytes */size``.
    """
    specs = _range_specs(header)
    if specs is None:
        return None
    if size == 0 and any(suffix and _number(suffix) for _, _, suffix in specs):
        return None
    ranges = [found for spec in specs if (found := _satisfy(spec, size)) is not None]
    if not ranges:
        raise RangeInvalid(
            f"no range of {quoted(header or '')} lies inside the {size} bytes of the blob",
            headers={"Content-Range": f"bytes */{size}"},
        )
    if sum(found.length for found in ranges) > _MAXIMUM_AMPLIFICATION * size:
        return None
    return ranges


def parse_content_range(text: str) -> tuple[int, int]:
    """The first and the last byte, both included, of the chunk that a Content-Range header of an upload announces.

    The distribution spec writes ``0-1023``; ``bytes 0-1023/4096`` of RFC 9110 is understood too.

    Raises:
        RangeInvalid: it is malformed, a number is beyond 2^63-1 or the end lies before the start.
    """
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise RangeInvalid(
            f"the Content-Range {quoted(text)} is malformed; it is written <first byte>-<last byte>, as in 0-1023"
        )
    start, end = int(match[1]), int(match[2])
    if end < start:
        raise RangeInvalid(f"the Content-Range {quoted(text)} ends before it starts")
    if end > MAXIMUM_SIZE:
        raise RangeInvalid(f"the Content-Range {quoted(text)} lies beyond the largest size of a blob")
    return start, end


def _range_specs(header: str | None) -> list[tuple[str, str, str]] | None:
    """(first, last, suffix length) of each range, as text; None when the header is to be ignored."""
    unit = _UNIT.match(header or "")
    if header is None or unit is None:
        return None
    # Empty members of a list are allowed (RFC 9110, 5.6.1.2).
    members = [member for text in header[unit.end() :].split(",", MAXIMUM_RANGES * 2) if (member := text.strip(" \t"))]
    matches = [match for member in members if (match := _SPEC.fullmatch(member))]
    if not members or len(members) > MAXIMUM_RANGES or len(matches) < len(members):
        return None
    return [(match[1] or "", match[2] or "", match[3] or "") for match in matches]


def _satisfy(spec: tuple[str, str, str], size: int) -> ByteRange | None:
    """The bytes of one range in a blob of ``size`` bytes, or None if it cannot be satisfied."""
    first, last, suffix = spec
    if suffix:
        start, end = max(0, size - _number(suffix)), size - 1
    else:
        start, end = _number(first), min(_number(last), size - 1) if last else size - 1
    return ByteRange(start, end) if start <= end else None


def _number(digits: str) -> int:
    """The value of ``digits``, or a number beyond every blob if there are too many digits."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _DIGITS else 10**_DIGITS
