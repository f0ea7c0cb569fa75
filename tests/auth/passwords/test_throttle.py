"""The throttle: wrong passwords of one user from one address."""

from __future__ import annotations

import pytest

from registry.auth.passwords import throttle as module
from registry.auth.passwords.throttle import Throttle


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(10, 300.0, clock)


def drain(throttle: Throttle, user: str, address: str | None) -> int:
    return sum(throttle.take(user, address) for _ in range(1000))


def test_so_many_are_allowed_and_no_more(throttle: Throttle) -> None:
    assert drain(throttle, "alice", "192.0.2.1") == 10


def test_time_fills_the_bucket(throttle: Throttle, clock: Clock) -> None:
    drain(throttle, "alice", "192.0.2.1")
    clock.now += 30.0
    assert drain(throttle, "alice", "192.0.2.1") == 1
    clock.now += 10_000.0
    assert drain(throttle, "alice", "192.0.2.1") == 10


def test_a_clock_that_is_set_back_takes_nothing_away(throttle: Throttle, clock: Clock) -> None:
    throttle.take("alice", "192.0.2.1")
    clock.now -= 500.0
    assert drain(throttle, "alice", "192.0.2.1") == 9
    clock.now += 30.0
    assert drain(throttle, "alice", "192.0.2.1") == 1


def test_another_address_and_another_user_are_not_affected(throttle: Throttle) -> None:
    drain(throttle, "alice", "192.0.2.1")
    assert throttle.take("alice", "192.0.2.2")
    assert throttle.take("bob", "192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:1"), (None, None), ("unix:", "")],
)
def test_addresses_of_one_machine_are_one(throttle: Throttle, one: str | None, other: str | None) -> None:
    drain(throttle, "alice", one)
    assert not throttle.take("alice", other)


def test_networks_of_ipv6_are_told_apart(throttle: Throttle) -> None:
    drain(throttle, "alice", "2001:db8::1")
    assert throttle.take("alice", "2001:db8:0:1::1")


def test_user_and_address_do_not_run_into_each_other(throttle: Throttle) -> None:
    drain(throttle, "2.1 alice", "192.0.2.1")
    assert throttle.take("alice", "192.0.2.1")
    assert throttle.take("1 2.1 alice", "192.0.2.1")


def test_what_is_given_back_was_not_counted(throttle: Throttle) -> None:
    for _ in range(100):
        assert throttle.take("alice", "192.0.2.1")
        throttle.give_back("alice", "192.0.2.1")
    assert drain(throttle, "alice", "192.0.2.1") == 10


def test_what_is_remembered_is_bounded(throttle: Throttle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUCKETS", 5)
    drain(throttle, "alice", "192.0.2.1")
    for number in range(4):
        throttle.take(f"{number}" * 5000, "192.0.2.1")
    assert not throttle.take("alice", "192.0.2.1")
    assert len(throttle._buckets) == 5
    assert {len(key) for key in throttle._buckets} == {16}
    throttle.take("last", "192.0.2.1")
    assert len(throttle._buckets) == 5
