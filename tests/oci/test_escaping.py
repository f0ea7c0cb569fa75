"""Quotations of what a client sent."""

from __future__ import annotations

import unicodedata

import orjson
from hypothesis import given
from hypothesis import strategies as st

from registry.oci.escaping import escape_json, quoted


def test_short_text_is_repeated_whole_and_long_text_is_cut() -> None:
    assert quoted("v1") == "'v1'"
    assert quoted("a" * 81) == "'" + "a" * 80 + "'..."


@given(st.text(alphabet=st.characters(codec=None)))
def test_a_quotation_can_always_be_encoded_and_is_one_line(text: str) -> None:
    assert quoted(text).isascii()
    assert quoted(text).isprintable()


@given(st.lists(st.text() | st.text('\x00\x1b\x7f\x9b\u2028\u202e\u2066é"\\')))
def test_json_stays_what_it_is_and_moves_no_terminal(texts: list[str]) -> None:
    line = escape_json(orjson.dumps(texts) + b"\n")
    assert orjson.loads(line) == texts
    shown = line.decode().removesuffix("\n").replace("\x7f", "")  # a terminal does nothing with DEL
    assert not any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
