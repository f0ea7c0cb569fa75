"""A name is resolved in a bounded time, whatever the system does."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from registry.upstream.resolver import AT_ONCE, NameUnknown, Resolver


def test_the_system_is_asked_for_a_name_and_not_for_an_address() -> None:
    assert "127.0.0.1" in Resolver().addresses("localhost", 5)

    def refuse(host: str) -> Sequence[str]:
        raise AssertionError(host)

    resolver = Resolver(refuse)
    assert [resolver.addresses(address, 5) for address in ("192.0.2.1", "2001:DB8::1")] == [
        ["192.0.2.1"],
        ["2001:db8::1"],
    ]


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(NameUnknown, match="not known"):
        Resolver().addresses("registry.invalid", 30)
    with pytest.raises(NameUnknown, match="no address"):
        Resolver(lambda _: []).addresses("registry.example.org", 5)


def test_look_ups_that_hang_are_left_behind_and_bounded() -> None:
    go_on = threading.Event()
    begun = []

    def hang(host: str) -> Sequence[str]:
        begun.append(host)
        go_on.wait()
        return ["192.0.2.1"]

    resolver = Resolver(hang)
    for _ in range(AT_ONCE):
        with pytest.raises(NameUnknown, match="in time"):
            resolver.addresses("registry.example.org", 0.001)
    with pytest.raises(NameUnknown, match="too many"):
        resolver.addresses("registry.example.org", 0.001)
    assert len(begun) <= AT_ONCE
    go_on.set()
    assert resolver.addresses("registry.example.org", 30) == ["192.0.2.1"]
