"""Which repositories a quota is for, and what its refusal says."""

from __future__ import annotations

import re

import pytest

from registry.config.access_sections import QuotaSettings
from registry.oci.quotas import Quota, Quotas, shown

GIB = 1 << 30


def quotas(*rules: tuple[str | list[str], int]) -> Quotas:
    return Quotas(
        QuotaSettings(repositories=(each,) if isinstance(each, str) else tuple(each), bytes=size)
        for each, size in rules
    )


def one(*patterns: str, size: int = GIB) -> Quota:
    made = quotas((list(patterns), size))
    ((_, quota),) = made._quotas.values()
    return quota


def test_a_repository_is_under_each_quota_whose_patterns_match_it() -> None:
    made = quotas(("team-a/**", 10), (["team-a/app", "other/*"], 20), ("**", 30))
    assert sorted(quota.limit for quota in made.of("team-a/app")) == [10, 20, 30]
    assert sorted(quota.limit for quota in made.of("team-a/app/deep")) == [10, 30]
    assert [quota.limit for quota in made.of("team-a")] == [30]
    assert made
    assert not Quotas()
    assert Quotas().of("team-a/app") == ()


def test_of_two_quotas_with_the_same_patterns_the_smaller_one_holds() -> None:
    made = quotas((["a/**", "b/**"], 20), (["b/**", "a/**", "a/**"], 10), (["b/**", "a/**"], 30))
    assert [quota.limit for quota in made.of("a/x")] == [10]


def test_quotas_come_in_one_order_however_the_settings_have_them() -> None:
    rules: list[tuple[str | list[str], int]] = [("**", 1), ("a/**", 2), ("a/*", 3)]
    assert quotas(*rules).of("a/b") == quotas(*reversed(rules)).of("a/b")


@pytest.mark.parametrize(
    ("patterns", "low"),
    [
        (["team-a/**"], "team-a/"),
        (["team-a/app"], "team-a/app"),
        (["team-a/**", "team-b/**"], "team-"),
        (["**/cache"], ""),
        (["a*", "b"], ""),
    ],
)
def test_names_are_looked_for_in_the_range_that_all_patterns_begin_with(patterns: list[str], low: str) -> None:
    group = one(*patterns).group
    assert (group.low, group.high) == (low, f"{low}~")


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("team_a/**", "team_a/app", True),
        ("team_a/**", "teamxa/app", False),
        ("team.a/*", "team.a/app", True),
        ("team.a/*", "teamxa/app", False),
        ("team-a/*", "team-a/app/deep", False),
        ("**/cache", "cache", True),
        ("**/cache", "a/b/cache", True),
        ("**/cache", "a/xcache", False),
        ("a*z/b", "a1z/b", True),
        ("**/a*b*c/**", "x/aabbcc/y", True),
        ("**/a*b*c/**", "x/aabb/cc", False),
    ],
)
def test_the_expression_matches_as_the_patterns_do(pattern: str, name: str, matches: bool) -> None:
    assert bool(quotas((pattern, 1)).of(name)) is matches
    group = one(pattern).group
    for expression in (group.expression, group.plain_expression):
        assert (re.match(expression, name) is not None and group.low <= name < group.high) is matches


def test_a_refusal_has_what_is_used_and_the_limit_and_the_patterns() -> None:
    error = one("team-a/**", "shared/a", size=3 * GIB // 2).exceeded(GIB, 2 * GIB)
    assert (error.status, error.code) == (403, "DENIED")
    assert error.message == (
        "the quota of shared/a, team-a/** is nearly full: 1.0 GiB (1073741824 bytes) of 1.5 GiB (1610612736 bytes)"
        " are used, and 2.0 GiB (2147483648 bytes) more do not fit; delete what is not needed, or have access.quotas"
        " raised"
    )
    assert error.detail == {
        "repositories": ["shared/a", "team-a/**"],
        "used": GIB,
        "limit": 3 * GIB // 2,
        "size": 2 * GIB,
    }


def test_a_refusal_of_any_byte_says_that_the_quota_is_full() -> None:
    message = one("a", size=1000).exceeded(1001, None).message
    assert message.startswith("the quota of a is full: 1001 bytes of 1000 bytes are used; delete")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB (1024 bytes)"),
        (1 << 62, "4096.0 PiB (4611686018427387904 bytes)"),
    ],
)
def test_sizes_are_shown_for_a_person_and_exactly(size: int, text: str) -> None:
    assert shown(size) == text
