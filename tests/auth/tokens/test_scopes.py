"""How what clients ask of the token endpoint is read (check 5)."""

from __future__ import annotations

import pytest

from registry.auth.tokens.scopes import MOST, Scope, parse_scopes

CASES = {
    "repository:library/busybox:pull": ["repository:library/busybox:pull"],
    "repository:a:pull,push": ["repository:a:pull,push"],
    "repository:a:push,pull": ["repository:a:push,pull"],
    "repository:a:pull,push,delete": ["repository:a:pull,push,delete"],
    "repository:a:delete": ["repository:a:delete"],
    "repository:a:*": ["repository:a:*"],
    "repository:host:5000/a:pull": ["repository:host:5000/a:pull"],
    "repository(plugin):a:pull": ["repository:a:pull"],
    "registry:catalog:*": ["registry:catalog:*"],
    "repository:a:pull repository:b:pull": ["repository:a:pull", "repository:b:pull"],
    "repository:a:pull repository:a:push": ["repository:a:pull,push"],
    "repository:a:pull repository(plugin):a:pull": ["repository:a:pull"],
    "repository:a:pull,pull,,pull": ["repository:a:pull"],
    "repository:a:fly": ["repository:a:fly"],
    "repository:a:": ["repository:a:"],
    "planet:mars:visit": ["planet:mars:visit"],
    "": [],
    "   ": [],
    "repository": [],
    "repository:a": [],
    "repository::pull": [],
    ":": [],
}


@pytest.mark.parametrize(("asked", "expected"), CASES.items())
def test_a_scope_is_read_as_the_specification_says(asked: str, expected: list[str]) -> None:
    assert [str(scope) for scope in parse_scopes([asked])] == expected


@pytest.mark.parametrize("asked", CASES)
def test_spaces_and_repeated_parameters_say_the_same(asked: str) -> None:
    assert parse_scopes([asked]) == parse_scopes(asked.split(" "))


def test_only_the_first_hundred_scopes_are_read_however_they_come() -> None:
    asked = [f"repository:a{number}:pull" for number in range(2 * MOST)]
    expected = [Scope("repository", f"a{number}", ("pull",)) for number in range(MOST)]
    assert parse_scopes(asked) == parse_scopes([" ".join(asked)]) == expected


def test_scopes_beyond_four_kilobytes_are_not_read() -> None:
    long = [f"repository:{letter * 1300}:pull" for letter in "abcd"]
    assert [scope.name[0] for scope in parse_scopes(long)] == ["a", "b", "c"]
