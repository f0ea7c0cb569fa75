"""Mistakes in rules that would let in what they do not mean, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from registry.config.access_sections import AccessRule, AuthSettings

RULE: dict[str, Any] = {"who": ["alice"], "repositories": ["team/**"], "actions": ["pull"]}


@pytest.mark.parametrize("pattern", ["**", "*", "a/*/b", "{claim}", "{a/b}/**", "app-*/x", "a.b_c"])
def test_patterns_of_repositories(pattern: str) -> None:
    assert AccessRule(**RULE | {"repositories": [pattern]}).repositories == (pattern,)


@pytest.mark.parametrize(
    "change",
    [
        {"repositories": []},
        {"repositories": [""]},
        {"repositories": ["Team/**"]},
        {"repositories": ["team/"]},
        {"repositories": ["/team"]},
        {"repositories": ["team**"]},
        {"repositories": ["{claim}x"]},
        {"repositories": ["{}"]},
        {"repositories": ["team/?"]},
        {"who": []},
        {"who": [""]},
        {"who": ["user:alice"]},
        {"who": ["group:"]},
        {"actions": []},
        {"actions": ["read"]},
        {"claims": {"ref": []}},
        {"deny": True},
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_meant_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AccessRule(**RULE | change)


def test_one_value_of_a_claim_is_a_list_of_one() -> None:
    assert AccessRule(**RULE | {"claims": {"ref": "main"}}).claims == {"ref": ("main",)}


def test_a_file_of_users_is_two_lines(tmp_path: Any) -> None:
    (tmp_path / "htpasswd").touch()
    given: dict[str, Any] = {"htpasswd": {"file": tmp_path / "htpasswd"}}
    assert AuthSettings(**given).throttle.failures == 10
