"""Rules that the registry takes and an operator cannot have meant."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from registry.config.retention_sections import RetentionRule, RetentionSettings
from registry.maintenance.retention.review import review
from tests.maintenance.retention.cases import rule

NEWEST: object = {"any": {"newest": 3}}


def notes(*rules: RetentionRule) -> list[str]:
    return list(review(RetentionSettings(rules=rules)))


def pair(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The notes on two rules, each by its repositories, tags and exceptions."""
    return notes(
        *(rule(NEWEST, each[1], name, each[0], *each[2:]) for name, each in zip("ab", (first, second), strict=True))
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("**", "*"), ("team/**", "v*")),
        (("**", "*"), ("**", "*")),
        (("team/**", "v*"), ("team/app", "v1.*,v2")),
        (("team/*", "v*"), ("team/app-*", "v*")),
        (("a,b/**", "x*,y*"), ("a,b/c", "y1")),
        (("a/**/z", "*"), ("a/**/z", "*")),
        (("a/**", "*"), ("a/**/z", "*")),
        (("**", "*", "hold"), ("**", "*", "h*")),
    ],
)
def test_a_rule_after_one_that_takes_all_of_its_tags_never_decides(first: Sequence[str], second: Sequence[str]) -> None:
    assert pair(first, second) == ["retention.rules.1 (b) never decides: a before it matches all it would"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("team/**", "*"), ("**", "*")),
        (("**", "v*"), ("**", "*")),
        (("**", "*", "hold"), ("**", "*")),
        (("team/*", "*"), ("team/**", "*")),
        (("*/*", "*"), ("**", "*")),
        (("a/*/z", "*"), ("a/**/z", "*")),
        (("a/**", "*"), ("a", "*")),
        (("**", "V*"), ("**", "v*")),
        (("**", "v1.*"), ("**", "v1*")),
    ],
)
def test_a_rule_that_may_decide_a_tag_is_no_mistake(first: Sequence[str], second: Sequence[str]) -> None:
    assert pair(first, second) == []


def test_a_pattern_that_nothing_can_match_is_named() -> None:
    assert notes(rule(NEWEST, repositories="a..b")) == [
        "retention.rules.0.repositories has a..b, which no repository can be called"
    ]
    assert notes(rule(NEWEST, "v*,w", but="v*")) == ["retention.rules.0.except has all that v* matches"]


def test_rules_that_only_keep_are_named() -> None:
    said = ["retention.rules keep always: tags that no rule matches stay too, so no tag is ever removed"]
    assert notes(rule("always")) == said
    assert notes(rule("always", "v*", "a"), rule(NEWEST, name="b")) == []
    assert notes() == []
