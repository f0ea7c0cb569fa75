"""The id of an upload session: sealed for its repository, and telling when it began and of which address."""

from __future__ import annotations

import re
import uuid

import pytest

from registry.images.session_ids import SessionId, crowd_of

NOW = 1_700_000_000.123
UNIQUE = str(uuid.UUID(int=7))


@pytest.mark.parametrize(
    ("address", "crowd"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", ""),
        (None, ""),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(address: str | None, crowd: str) -> None:
    assert crowd_of(address) == crowd


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8:1:2:3:4:5:6", "::1", "unix", None])
def test_an_id_says_when_and_where_its_session_began(address: str | None) -> None:
    made = SessionId.make("team/app", "sha512", address, NOW)
    found = SessionId.parse(made.text)
    assert found == made
    assert abs(found.began - NOW) < 0.001
    assert found.address == crowd_of(address)
    assert found.algorithm_in("team/app") == "sha512"
    assert uuid.UUID(found.unique).version == 7
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found.text), "an upload id of every store"


def test_an_id_is_of_one_repository() -> None:
    session = SessionId.make("team/app", "sha256", None, NOW)
    assert session.algorithm_in("team/app2") is None
    other = SessionId.make("team/app2", "sha256", None, NOW)
    forged = SessionId.parse(session.text.replace(session.seal, other.seal))
    assert forged is not None
    assert forged.algorithm_in("team/app2") is None


def test_ids_differ() -> None:
    assert len({SessionId.make("team/app", "sha256", "192.0.2.1", NOW).text for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["", "of-a-lost-database", UNIQUE, f"{UNIQUE}_0_{'g' * 32}", f"{UNIQUE}_0_{'a' * 33}"])
def test_other_ids_say_nothing(text: str) -> None:
    assert SessionId.parse(text) is None
