"""The id of an upload session: sealed for its repository, and telling when it began and of which address."""

from __future__ import annotations

import uuid

import pytest

from registry.images.uploads.session_ids import SessionId, crowd_of, noted, origin_of

NOW = 1_700_000_000.123
UNIQUE = SessionId.make("team/app", "sha256", "", 0).unique[:24] + "0" * 12


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


@pytest.mark.parametrize(
    ("address", "account", "told"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("255.255.255.255", None, "255.255.255.255"),
        ("2001:db8:1:2:3:4:5:6", None, "IPv6 network 7437dddb"),
        ("2001:db8:1:2::", None, "IPv6 network 7437dddb"),
        ("unix", None, ""),
        (None, None, ""),
        ("192.0.2.1", "user:alice", "account 88466f6c"),
        ("2001:db8:1:2::", "user:alice", "account 88466f6c"),
        (None, "oidc:sso/alice", "account 35581ac8"),
    ],
)
def test_an_id_says_when_its_session_began_and_whose_it_is(address: str | None, account: str | None, told: str) -> None:
    made = SessionId.make("team/app", "sha512", crowd_of(address, account), NOW)
    found = SessionId.parse(made.text)
    assert found == made
    assert found.algorithm_in("team/app") == "sha512"
    assert uuid.UUID(found.unique).version == 7
    assert uuid.UUID(found.unique).variant == uuid.RFC_4122
    assert noted(found.text) == noted(found.unique) == found.unique
    origin = origin_of(found.unique)
    assert origin is not None
    assert abs(origin.began - NOW) < 0.001
    assert origin.address == told


def test_an_id_is_of_one_repository() -> None:
    session = SessionId.make("team/app", "sha256", "", NOW)
    assert session.algorithm_in("team/app2") is None
    other = SessionId.make("team/app2", "sha256", "", NOW)
    assert SessionId(session.unique, other.seal).algorithm_in("team/app2") is None


def test_a_session_with_a_row_from_its_beginning_says_nothing() -> None:
    assert origin_of(str(uuid.uuid4())) is None
    assert origin_of("of-a-lost-database") is None


def test_ids_differ() -> None:
    assert len({SessionId.make("team/app", "sha256", "192.0.2.1", NOW).text for _ in range(1000)}) == 1000


@pytest.mark.parametrize("text", ["", "of-a-lost-database", UNIQUE, f"{UNIQUE}_{'g' * 32}", f"{UNIQUE}_{'a' * 33}"])
def test_other_ids_say_nothing(text: str) -> None:
    assert SessionId.parse(text) is None
