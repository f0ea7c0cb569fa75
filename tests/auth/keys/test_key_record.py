"""Records of keys: what is read, and what is refused rather than taken for less than it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.auth.keys.key_record import KeyRecord
from registry.auth.keys.key_scope import KeyScope
from registry.auth.keys.key_secret import KeySecret

SECRET = KeySecret.make()


def record(**changes: Any) -> KeyRecord:
    fields: dict[str, Any] = {
        "owner": "alice",
        "scope": KeyScope.of(["team/**"], ["pull"]),
        "created": 1_800_000_000.1234,
        "expires": 1_800_000_100.0,
        "description": "for CI",
    }
    return KeyRecord.make(SECRET, **(fields | changes))


@pytest.mark.parametrize("changes", [{}, {"owner": None}, {"scope": None}, {"expires": None}, {"description": ""}])
def test_what_is_written_is_read(changes: dict[str, Any]) -> None:
    made = record(**changes)
    assert KeyRecord.parse(made.serialize()) == made


def test_the_secret_is_not_written() -> None:
    assert SECRET.text.encode() not in record().serialize()
    assert SECRET.text[10:30].encode() not in record().serialize()


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": None},
        {"sha256": 1},
        {"sha256": "é" * 64},
        {"sha256": "0" * 63},
        {"owner": ["alice"]},
        {"owner": 1},
        {"scope": {}},
        {"scope": []},
        {"scope": {"repositories": "team", "actions": ["pull"]}},
        {"scope": {"repositories": ["team"], "actions": ["everything"]}},
        {"scope": {"repositories": [], "actions": []}},
        {"expires": "soon"},
        {"expires": 0},
        {"created": None},
    ],
)
def test_what_is_not_understood_is_no_key(changes: dict[str, Any]) -> None:
    document = record().document() | changes
    with pytest.raises(ValueError, match=r".+"):
        KeyRecord.parse(json.dumps(document).encode())


@pytest.mark.parametrize("missing", ["owner", "scope", "expires", "sha256", "id"])
def test_a_bound_that_is_missing_is_not_taken_for_none(missing: str) -> None:
    document = record().document()
    del document[missing]
    with pytest.raises(ValueError, match="missing"):
        KeyRecord.parse(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"{", record().serialize()[:-20]])
def test_what_is_cut_or_no_object_is_no_key(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        KeyRecord.parse(data)
