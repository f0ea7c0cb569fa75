"""JSON that every reader understands alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.strict_json import StrictJSONError, loads

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_any_json_document_survives_writing_and_reading(value: Any, escaped: bool) -> None:
    assert loads(json.dumps(value, ensure_ascii=escaped).encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{}x",
        b"{}{}",
        b"{} \x00",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b"{'a':1}",
        b'{"a":1,}',
        b"[1,]",
        b'{"a":01}',
        b'{"a":"\n"}',
        b"// comment\n{}",
        b"[" * 5000 + b"]" * 5000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 400_000,
        b"[" + b"[]," * 600_000 + b"[]]",
    ],
)
def test_json_that_is_not_strict_is_refused(text: bytes) -> None:
    with pytest.raises(StrictJSONError):
        loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"x":{"y":[{"a":1,"b":2,"a":3}]}}',
        b'{"a":1,"\\u0061":2}',
        b'{"b":0,"a":{},"a":[]}',
    ],
)
def test_a_name_that_appears_twice_is_refused_and_named(text: bytes) -> None:
    with pytest.raises(StrictJSONError, match="the name 'a' appears twice"):
        loads(text)


def test_the_same_name_in_two_objects_is_fine() -> None:
    assert loads(b'{"a":{"a":{"b":1}},"b":{"a":2}}') == {"a": {"a": {"b": 1}}, "b": {"a": 2}}


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        loads(data)
    except StrictJSONError:
        return
    json.loads(data)
