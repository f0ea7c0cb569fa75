"""A tag is asked for when it is due, by its age and by what came of the last request."""

from __future__ import annotations

from typing import Any

import pytest

from registry.database.mirrors.mirror_tags import MirrorTagRow
from registry.mirror.freshness import Verdict, age_of, backoff, judge

ROW = MirrorTagRow("sha256:a", 1, 500.0, 1.0, 10.0, None, -1.0, 0, 0)


@pytest.mark.parametrize(
    ("change", "settings", "verdict"),
    [
        ({}, {}, Verdict.FRESH),
        ({"age": 59.9}, {}, Verdict.FRESH),
        ({"age": 60.0}, {}, Verdict.ASK),
        ({"age": None}, {}, Verdict.ASK),
        ({"age": -1.0}, {}, Verdict.ASK),
        ({"age": 0.0}, {"ttl": 0.0}, Verdict.ASK),
        ({"age": 60.0, "wait": 5.0}, {}, Verdict.STALE),
        ({"age": 60.0, "wait": 1e6}, {}, Verdict.ASK),
        ({"age": 10.0, "wait": 5.0}, {}, Verdict.FRESH),
        ({"age": 10.0, "is_gone": 1}, {}, Verdict.ASK),
        ({"age": 10.0, "is_gone": 1, "wait": 5.0}, {}, Verdict.STALE),
        ({"age": None, "wait": 5.0}, {}, Verdict.STALE),
        ({"age": 1e9}, {"is_fixed": True}, Verdict.FRESH),
        ({"age": None, "is_gone": 1}, {"is_fixed": True}, Verdict.FRESH),
        ({"age": 10.0}, {"is_offline": True}, Verdict.FRESH),
        ({"age": 60.0}, {"is_offline": True}, Verdict.STALE),
    ],
    ids=str,
)
def test_a_tag_is_judged(change: dict[str, Any], settings: dict[str, Any], verdict: Verdict) -> None:
    row = ROW._replace(**change)
    assert judge(row, **{"ttl": 60.0, "is_fixed": False, "is_offline": False, **settings}) is verdict


@pytest.mark.parametrize(
    ("change", "age"),
    [({}, 10.0), ({"age": None}, 500.0), ({"age": -5.0}, 500.0), ({"age": None, "age_here": -5.0}, 0.0)],
    ids=str,
)
def test_a_tag_is_as_old_as_what_was_last_known_of_it(change: dict[str, Any], age: float) -> None:
    assert age_of(ROW._replace(**change)) == age


def test_pauses_double_from_a_second_to_five_minutes() -> None:
    assert [backoff(fails) for fails in (0, 1, 2, 8, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300, 300]
