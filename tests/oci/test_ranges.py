"""Byte ranges: what is served, what is ignored, what is 416; and Content-Range of upload chunks."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.descriptor import MAXIMUM_SIZE
from registry.oci.errors import RangeInvalid
from registry.oci.ranges import MAXIMUM_RANGES, ByteRange, parse_content_range, parse_range

SIZE = 2048


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        # The cases of the conformance program.
        ("bytes=500-1499", [(500, 1499)]),
        ("bytes=500-", [(500, 2047)]),
        ("bytes=-500", [(1548, 2047)]),
        ("bytes=2000-5000", [(2000, 2047)]),
        # Limits.
        ("bytes=0-", [(0, 2047)]),
        ("bytes=0-0", [(0, 0)]),
        ("bytes=2047-2047", [(2047, 2047)]),
        ("bytes=-1", [(2047, 2047)]),
        ("bytes=-2048", [(0, 2047)]),
        ("bytes=-9999", [(0, 2047)]),
        ("bytes=0-" + "9" * 5000, [(0, 2047)]),
        ("bytes=-" + "9" * 5000, [(0, 2047)]),
        ("bytes=" + "0" * 5000 + "-1", [(0, 1)]),
        # Spelling.
        ("Bytes=0-1", [(0, 1)]),
        ("bytes= 0-1 ,\t3-4", [(0, 1), (3, 4)]),
        ("bytes=,0-1,,", [(0, 1)]),
        # Several, in the order in which they were asked for.
        ("bytes=10-19,0-4,-8", [(10, 19), (0, 4), (2040, 2047)]),
        ("bytes=0-2047,0-2047", [(0, 2047), (0, 2047)]),
        # What cannot be satisfied is dropped from a list.
        ("bytes=9999-,0-1,5-2,-0", [(0, 1)]),
    ],
)
def test_ranges_that_are_served(header: str, expected: list[tuple[int, int]]) -> None:
    found = parse_range(header, SIZE)
    assert found is not None
    assert [(one.start, one.end) for one in found] == expected


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=1-2-3",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=0-1;2-3",
        "bytes=0x1-0x2",
        "bytes=\u0661-\u0662",
        "bytes=0-1,x",
        "lines=0-1",
        "items=0-1",
        "0-1",
        "bytes:0-1",
        "bytes=0-1\n",
        "bytes=0-2047,0-2047,0-2047",
        "bytes=" + ",".join(["0-"] * 500),
        "bytes=" + ",".join(f"{n}-{n}" for n in range(MAXIMUM_RANGES + 1)),
        "bytes=" + "," * 100_000,
    ],
)
def test_headers_that_are_ignored(header: str | None) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize(
    "header",
    [
        "bytes=500-0",
        "bytes=5000-10000",
        "bytes=2048-",
        "bytes=-0",
        "bytes=-000",
        "bytes=" + "9" * 5000 + "-",
        "bytes=3-2,9999-",
    ],
)
def test_ranges_that_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(RangeInvalid) as raised:
        parse_range(header, SIZE)
    assert raised.value.headers == {"Content-Range": "bytes */2048"}


def test_as_many_ranges_as_podman_asks_for_are_served() -> None:
    header = "bytes=" + ",".join(f"{n * 2}-{n * 2}" for n in range(MAXIMUM_RANGES))
    assert len(parse_range(header, SIZE) or []) == MAXIMUM_RANGES


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-0"])
def test_no_range_of_an_empty_blob_can_be_satisfied(header: str) -> None:
    with pytest.raises(RangeInvalid):
        parse_range(header, 0)


def test_a_suffix_of_an_empty_blob_is_the_whole_of_it() -> None:
    assert parse_range("bytes=-500", 0) is None
    assert parse_range("bytes=7-,-500", 0) is None


def test_a_part_knows_its_length_and_its_header() -> None:
    part = ByteRange(500, 1499)
    assert part.length == 1000
    assert part.content_range(SIZE) == "bytes 500-1499/2048"


@given(
    size=st.integers(0, 50),
    members=st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: f"{pair[0]}-{pair[1]}")
        | st.integers(0, 60).map("{}-".format)
        | st.integers(0, 60).map("-{}".format),
        min_size=1,
        max_size=5,
    ),
)
def test_parts_lie_inside_the_blob_and_send_it_twice_at_most(size: int, members: list[str]) -> None:
    try:
        found = parse_range("bytes=" + ",".join(members), size)
    except RangeInvalid:
        return
    if found is not None:
        assert found
        assert all(0 <= part.start <= part.end < size for part in found)
        assert sum(part.length for part in found) <= 2 * size


@given(header=st.text(alphabet=st.sampled_from("bytes=-, 0129\u0661"), max_size=30), size=st.integers(0, 300))
def test_any_header_is_read_ignored_or_refused(header: str, size: int) -> None:
    for text in (header, "bytes=" + header):
        with contextlib.suppress(RangeInvalid):
            assert parse_range(text, size) != []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-0", (0, 0)),
        ("0-1023", (0, 1023)),
        ("007-008", (7, 8)),
        (" 0-1 ", (0, 1)),
        ("bytes 0-1023", (0, 1023)),
        ("bytes=0-1023", (0, 1023)),
        ("bytes 5-9/10", (5, 9)),
        ("5-9/10", (5, 9)),
        ("5-9/*", (5, 9)),
        (f"0-{MAXIMUM_SIZE}", (0, MAXIMUM_SIZE)),
    ],
)
def test_the_content_range_of_a_chunk_is_read(text: str, expected: tuple[int, int]) -> None:
    assert parse_content_range(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "0-",
        "-5",
        "5",
        "5-4",
        "0--1",
        "a-b",
        "0-1,2-3",
        "0 - 1",
        "0-1/x",
        "0-1/",
        "0x0-0x1",
        "\u0660-\u0661",
        "0-1\x00",
        "items 0-1",
        f"0-{MAXIMUM_SIZE + 1}",
        f"0-{'9' * 20}",
        f"0-{'9' * 5000}",
        f"{'0' * 19}1-2",
    ],
)
def test_a_malformed_content_range_is_refused(text: str) -> None:
    with pytest.raises(RangeInvalid) as raised:
        parse_content_range(text)
    assert raised.value.message.isascii()


@given(start=st.integers(0, MAXIMUM_SIZE), length=st.integers(0, 10**6))
def test_any_content_range_survives_writing_and_reading(start: int, length: int) -> None:
    end = min(start + length, MAXIMUM_SIZE)
    assert parse_content_range(f"{start}-{end}") == (start, end)
