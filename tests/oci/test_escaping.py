"""Quotations of what a client sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.oci.escaping import quoted


def test_short_text_is_repeated_whole_and_long_text_is_cut() -> None:
    assert quoted("v1") == "'v1'"
    assert quoted("a" * 81) == "'" + "a" * 80 + "'..."


@given(st.text(alphabet=st.characters(codec=None)))
def test_a_quotation_can_always_be_encoded_and_is_one_line(text: str) -> None:
    assert quoted(text).isascii()
    assert quoted(text).isprintable()
