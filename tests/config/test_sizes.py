"""Sizes as numbers and as text with a unit."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from registry.config.sizes import LARGEST, Size

SIZE: TypeAdapter[int] = TypeAdapter(Size)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1),
        ("1", 1),
        ("10B", 10),
        ("10GiB", 10 << 30),
        ("10 GiB", 10 << 30),
        ("2TB", 2 * 10**12),
        ("5kB".upper(), 5000),
        ("1PiB", 1 << 50),
        (LARGEST, LARGEST),
    ],
)
def test_a_size_is_a_number_of_bytes(written: int | str, size: int) -> None:
    assert SIZE.validate_python(written) == size


@pytest.mark.parametrize(
    "written",
    ["", "GiB", "-1", "1.5GiB", "10gib", "10 G", "1e9", "٣GiB", "10GiB ", 0, -5, 1.5, LARGEST + 1, "9" * 19 + "PiB"],
)
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        SIZE.validate_python(written)
