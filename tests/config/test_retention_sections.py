"""Rules of retention that cannot be meant, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from registry.config.file import ConfigError
from registry.config.retention_sections import RetentionRule, RetentionSettings
from registry.config.settings import load_settings

RULE: dict[str, Any] = {"name": "previews", "repositories": ["team/**"], "tags": ["pr-*"], "keep": "always"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"keep": {"any": {}}},
            "an object has no condition; it needs newest, pushed_within or pulled_within",
        ),
        ({"keep": {"all": {"newest": None}}}, "keep.all: an object has no condition"),
        ({"keep": {}}, 'keep: an object needs "any" or "all", and not both'),
        ({"keep": {"any": {"newest": 1}, "all": {"newest": 1}}}, 'keep: an object needs "any" or "all", and not both'),
        ({"keep": "alwys"}, 'keep: "alwys" is neither "always" nor {"any": {...}} or {"all": {...}}'),
        ({"keep": None}, 'keep: null is neither "always" nor'),
        ({"keep": {"any": {"newset": 1}}}, "there is no such key; did you mean retention.rules.keep.any.newest?"),
        ({"exept": ["a"]}, "there is no such key; did you mean retention.rules.except?"),
        ({"keep": {"any": {"newest": 0}}}, "newest: 0 is too small; it must be at least 1"),
        ({"keep": {"any": {"pulled_within": "2x"}}}, 'pulled_within: "2x" is no duration'),
        ({"tags": ["v[0-9]"]}, 'tags.0: "v[0-9]" is no pattern of tags'),
        ({"tags": ["a/b"]}, 'tags.0: "a/b" is no pattern of tags'),
        ({"tags": [".x"]}, 'tags.0: ".x" is no pattern of tags'),
        ({"except": ["v?"]}, 'except.0: "v?" is no pattern of tags'),
        ({"tags": []}, "tags: [] has nothing in it; it needs at least one"),
        ({"repositories": []}, "repositories: [] has nothing in it"),
        ({"repositories": ["{claim}/x"]}, 'repositories: ["{claim}/x"] has a {claim}, and no identity is asked here'),
        ({"repositories": ["Team/**"]}, 'repositories.0: "Team/**" is no pattern of repositories'),
        ({"name": ""}, 'name: "" is too short'),
    ],
    ids=str,
)
def test_a_mistake_in_a_rule_is_named_with_what_would_be_right(write: Any, change: dict[str, Any], said: str) -> None:
    path = write({"retention": {"rules": [RULE, RULE | {"name": "other"} | change]}})
    with pytest.raises(ConfigError) as error:
        load_settings(path)
    text = str(error.value).replace(f" ({path})", "")
    assert said in text
    assert text.startswith("retention.rules.1.")


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="two rules of the name previews"):
        RetentionSettings.model_validate({"rules": [RULE, RULE]})


@pytest.mark.parametrize(
    "section", [{"max_share": 1.1}, {"max_share": -0.1}, {"interval": 0}, {"mode": "delete"}, {"pull_interval": -1}]
)
def test_a_value_out_of_bounds_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetentionSettings.model_validate(section)


def test_without_rules_nothing_is_removed_and_nothing_before_it_is_asked_for() -> None:
    settings = RetentionSettings()
    assert (settings.mode, settings.rules, settings.max_share) == ("report", (), 0.5)


def test_durations_and_lists_of_one_may_be_texts() -> None:
    given = {"any": {"pushed_within": "2w", "pulled_within": 90}}
    rule = RetentionRule.model_validate(RULE | {"tags": "a*, b", "keep": given})
    assert rule.tags == ("a*", "b")
    assert not isinstance(rule.keep, str)
    assert rule.keep.any is not None
    assert (rule.keep.any.pushed_within, rule.keep.any.pulled_within) == (1_209_600, 90)


def test_a_null_interval_leaves_runs_to_the_command() -> None:
    assert RetentionSettings(interval=None).interval is None
