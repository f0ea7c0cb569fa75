"""An answer is kept for its time, asked for once, and stays where the next request fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.mirror.kept_answers import KeptAnswers
from registry.oci.errors import BadGateway, NameUnknown


class Asked:
    """Answers ``value``, or raises ``fault``, and counts."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.value = b"one"
        self.fault: Exception | None = None
        self.count = 0
        self.has_older: list[bool] = []
        self.during: Callable[[], object] = str

    def __call__(self, has_older: bool) -> bytes:
        self.count += 1
        self.has_older.append(has_older)
        self.during()
        if self.fault is not None:
            raise self.fault
        return self.value


@pytest.fixture
def asked() -> Asked:
    return Asked()


def kept_of(asked: Asked, *, ttl: float = 60, max_stale: float | None = None, size: int = 10_000) -> KeptAnswers[bytes]:
    return KeptAnswers(lambda: asked.now, len, ttl=ttl, max_stale=max_stale, size=size)


def test_it_is_asked_for_once_in_its_time(asked: Asked) -> None:
    kept = kept_of(asked)
    assert kept.find("app", asked) == (b"one", 0, 60, False)
    asked.now += 59
    assert kept.find("app", asked) == (b"one", 59, 1, False)
    asked.value, asked.now = b"two", asked.now + 1
    assert kept.find("app", asked) == (b"two", 0, 60, False)
    assert asked.has_older == [False, True]


def test_it_is_as_old_as_its_request(asked: Asked) -> None:
    kept = kept_of(asked)

    def wait() -> None:
        asked.now += 10

    asked.during = wait
    assert kept.find("app", asked) == (b"one", 10, 50, False)


def test_without_a_time_each_request_asks(asked: Asked) -> None:
    kept = kept_of(asked, ttl=0)
    assert [kept.find("app", asked).value for _ in range(3)] == [b"one"] * 3
    assert asked.count == 3


def test_after_a_failure_the_older_one_is_served_and_requests_grow_rare(asked: Asked) -> None:
    kept = kept_of(asked)
    kept.find("app", asked)
    asked.now, asked.fault = asked.now + 60, BadGateway("away")
    for fails in range(12):
        begun, before = asked.now, asked.count
        assert kept.find("app", asked).is_stale
        assert asked.count == before + 1
        while asked.now - begun < min(2**fails, 300) - 0.5:
            assert kept.find("app", asked) == (b"one", asked.now - 1000, 0, True)
            asked.now += 0.5
        assert asked.count == before + 1
        asked.now = begun + min(2**fails, 300)
    asked.fault, asked.value = None, b"two"
    assert kept.find("app", asked) == (b"two", 0, 60, False)


def test_without_an_older_one_the_error_is_raised_and_not_asked_for_again_at_once(asked: Asked) -> None:
    kept = kept_of(asked)
    asked.fault = BadGateway("away")
    for _ in range(5):
        with pytest.raises(BadGateway):
            kept.find("app", asked)
    assert asked.count == 1
    asked.now += 1
    with pytest.raises(BadGateway):
        kept.find("app", asked)
    assert asked.count == 2
    assert not any(asked.has_older)


def test_an_absence_ends_what_was_kept(asked: Asked) -> None:
    kept = kept_of(asked, ttl=1)
    kept.find("app", asked)
    asked.now += 1
    asked.fault = NameUnknown("gone")
    with pytest.raises(NameUnknown):
        kept.find("app", asked)
    asked.fault = BadGateway("away")
    with pytest.raises(BadGateway):
        kept.find("app", asked)


def test_what_is_older_than_it_may_be_is_not_served(asked: Asked) -> None:
    kept = kept_of(asked, max_stale=100)
    kept.find("app", asked)
    asked.now, asked.fault = asked.now + 100, BadGateway("away")
    assert kept.find("app", asked).is_stale
    asked.now += 1
    for _ in range(2):
        with pytest.raises(BadGateway):
            kept.find("app", asked)


def test_threads_share_a_request_and_its_error(asked: Asked) -> None:
    kept, waiting = kept_of(asked), threading.Event()
    asked.during = lambda: waiting.wait(30)
    asked.fault = BadGateway("away")
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(kept.find, "app", asked) for _ in range(8)]
        waiting.set()
        assert {type(call.exception()) for call in calls} == {BadGateway}
    assert asked.count == 1


def test_memory_is_bounded(asked: Asked) -> None:
    kept = kept_of(asked, size=3000)
    asked.value = b"x" * 500
    for name in "abcd":
        kept.find(name, asked)
    kept.find("d", asked)
    assert asked.count == 4
    kept.find("a", asked)
    assert asked.count == 5
    asked.value = b"x" * 3000
    assert kept.find("large", asked).value == kept.find("large", asked).value == asked.value
    assert asked.count == 7
