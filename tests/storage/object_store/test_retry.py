"""What is asked again, what is not, and what is reported of it."""

from __future__ import annotations

import pytest

from registry.storage.errors import (
    PathNotFound,
    PreconditionFailed,
    StorageUnavailable,
    StoreMisconfigured,
    Throttled,
    Unanswered,
)
from registry.storage.object_store.retry import Retry, stop_of


class _Settings:
    attempts = 4
    connect_timeout = 5.0
    read_timeout = 30.0
    timeout = 70.0
    connections = 2


class _State:
    attempt_number = 1
    upcoming_sleep = 0.0

    def __init__(self, seconds: float) -> None:
        self.seconds_since_start = seconds


def test_no_attempt_begins_that_could_end_too_late() -> None:
    stop = stop_of(_Settings())
    assert not stop(_State(30.2))  # type: ignore[arg-type]
    assert stop(_State(35.1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "times", "failed"),
    [
        (Throttled, 4, True),
        (StorageUnavailable, 4, True),
        (StoreMisconfigured, 1, True),
        (PathNotFound, 1, False),
        (PreconditionFailed, 1, False),
        (ZeroDivisionError, 1, True),
    ],
)
def test_what_may_help_is_repeated_and_each_request_reported(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], times: int, failed: bool
) -> None:
    reports = []
    retry = Retry("toy", _Settings(), lambda *report: reports.append((*report[:3], report[4])))
    monkeypatch.setattr(retry._retrying, "sleep", lambda _: None)

    def ask() -> None:
        with retry.request("key", "get_object", "get"):
            raise error("key")

    with pytest.raises(error):
        retry.repeat("key", ask)
    assert reports == [("toy", "get_object", "get", failed)] * times
    assert retry.repeat("key", lambda: "answer") == "answer"


@pytest.mark.parametrize(("error", "times"), [(Throttled, 4), (StorageUnavailable, 4), (Unanswered, 1)])
def test_what_must_not_happen_late_is_repeated_where_it_was_refused_alone(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], times: int
) -> None:
    retry, asked = Retry("toy", _Settings()), []
    monkeypatch.setattr(retry._sending, "sleep", lambda _: None)

    def ask() -> None:
        asked.append(1)
        raise error("key")

    with pytest.raises(error):
        retry.repeat_refused("key", ask)
    assert len(asked) == times


def test_what_may_still_come_is_looked_for_more_often_than_a_request_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    retry, looks = Retry("toy", _Settings()), iter([False] * 10 + [True])
    monkeypatch.setattr(retry._waiting, "sleep", lambda _: None)

    def look() -> str:
        if not next(looks):
            raise StorageUnavailable("key")
        return "there"

    assert retry.wait_for("key", look) == "there"
