"""Rules by their order: which of them decides a tag."""

from __future__ import annotations

import pytest

from tests.maintenance.retention.cases import rule, rules


def test_the_first_rule_that_matches_repository_and_tag_decides() -> None:
    found = rules(
        rule("always", "v*", "one", "team/**"), rule("always", "*", "two", "team/app"), rule("always", "*", "three")
    )
    assert [each and each.name for each in map(found.of("team/app").find, ("v1", "x"))] == ["one", "two"]
    assert [each and each.name for each in map(found.of("team/other").find, ("v1", "x"))] == ["one", "three"]
    assert [each and each.name for each in map(found.of("app").find, ("v1", "x"))] == ["three", "three"]


def test_no_rule_is_for_a_repository_that_no_pattern_matches() -> None:
    found = rules(rule("always", repositories="team/**"))
    assert found
    assert not found.of("other")
    assert found.of("other").find("a") is None
    assert not rules()


@pytest.mark.parametrize(
    ("keep", "needs_all"), [("always", False), ({"any": {"newest": 1}}, False), ({"all": {"newest": 1}}, True)]
)
def test_a_rule_knows_how_its_conditions_go_together(keep: object, needs_all: bool) -> None:
    found = rules(rule(keep)).of("a").find("b")
    assert found is not None
    assert found.needs_all == needs_all
    assert (found.conditions is None) == (keep == "always")
