"""Durations as numbers and as text with a unit."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from registry.config.durations import Seconds, SecondsOrNone

SECONDS: TypeAdapter[float] = TypeAdapter(Seconds)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (1, 1), (0.5, 0.5), ("3600", 3600), ("2.5", 2.5), ("90s", 90), ("90 s", 90), ("15m", 900), ("12h", 43_200),
        ("1.5h", 5400), ("14d", 1_209_600), ("2w", 1_209_600),
    ],
)  # fmt: skip
def test_a_duration_is_a_number_of_seconds(written: float | str, seconds: float) -> None:
    assert SECONDS.validate_python(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "-1s", "1M", "1 day", "1h30m", "1e9d", "٣s", "1d ", "nan", "inf", "0s", 0, -5, None, [1]]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        SECONDS.validate_python(written)


def test_where_none_at_all_is_meant_it_can_be_said() -> None:
    zero: TypeAdapter[float] = TypeAdapter(SecondsOrNone)
    assert [zero.validate_python(written) for written in (0, "0", "0d")] == [0, 0, 0]
