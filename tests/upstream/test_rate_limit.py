"""What an upstream says about its limits is believed within bounds."""

from __future__ import annotations

import pytest

from registry.upstream.rate_limit import LONGEST, pause_after, remaining, retry_after

NOW = 1_700_000_000.0
IN_TWO_MINUTES = "Tue, 14 Nov 2023 22:15:20 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": IN_TWO_MINUTES}, 120),
        ({"Retry-After": IN_TWO_MINUTES, "Date": "Tue, 14 Nov 2023 22:15:00 GMT"}, 20),
        ({"Retry-After": IN_TWO_MINUTES, "Date": "Tue, 14 Nov 2023 23:00:00 GMT"}, 0),
        ({"Retry-After": "99999999999999999999"}, LONGEST),
        ({"Retry-After": "Tue, 14 Nov 9999 22:15:20 GMT"}, LONGEST),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "\u0661\u0662"}, None),
        ({"Retry-After": "Tue, 99 Nov 2023 22:15:20 GMT"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("value", "expected"), [("76;w=21600", 76), ("0", 0), (" 5 ", 5), ("", None), ("many", None), ("-1", None)]
)
def test_the_remaining_requests_are_read(value: str, expected: int | None) -> None:
    assert remaining({"RateLimit-Remaining": value}) == expected


def test_a_pause_is_what_upstream_says_or_doubles_to_fifteen_minutes() -> None:
    assert [pause_after(fails, None) for fails in (0, 1, 2, 3, 4, 5, 1000)] == [60, 120, 240, 480, 900, 900, 900]
    assert [pause_after(9, seconds) for seconds in (0.0, 5.0, 10_000_000.0)] == [1, 5, LONGEST]
