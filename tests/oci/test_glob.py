"""Patterns of repositories, and what claims can and cannot make of them."""

from __future__ import annotations

import time

import pytest

from registry.oci.glob import Glob, text_pattern


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("app", ["app"], ["app2", "app/x", "xapp", "ap"]),
        ("*", ["app", "a.b"], ["a/b"]),
        ("**", ["app", "a/b/c"], []),
        ("team/*", ["team/a"], ["team", "team/a/b", "teams/a"]),
        ("team/**", ["team/a", "team/a/b"], ["team", "teams/a", "x/team/a"]),
        ("team-*/app", ["team-a/app", "team-/app"], ["team/app", "team-a/b/app"]),
        ("**/app", ["app", "a/app", "a/b/app"], ["xapp", "a/xapp", "app/x"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a/bz", "az"]),
        ("*/**", ["a/b", "a/b/c"], ["a"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_stars_are_within_a_segment_or_whole_ones(pattern: str, yes: list[str], no: list[str]) -> None:
    glob = Glob(pattern)
    assert [name for name in (*yes, *no) if glob.matches(name, {})] == yes
    assert all(name.startswith(glob.prefix({}) or "") for name in yes)


@pytest.mark.parametrize(
    ("value", "yes"),
    [
        ("team/app", ["team/app", "team/app/x", "team/app/x/y"]),
        ("team", ["team", "team/app", "team/app/x", "team/app/x/y", "team/app2"]),
        ("Team/app", []),
        ("team/*", []),
        ("**", []),
        ("", []),
        ("..", []),
        ("team/../secret", []),
        ("team/", []),
        ("/team", []),
        ("team//app", []),
        ("{other}", []),
        ("storage", []),
        (("team",), []),
        (None, []),
    ],
)
def test_a_claim_is_literal_and_has_to_be_a_name(value: str | tuple[str, ...] | None, yes: list[str]) -> None:
    claims = {"other": "secret"} | ({} if value is None else {"path": value})
    names = ["team/app", "team/app/x", "team/app/x/y", "team/app2", "team", "secret", "storage", ""]
    globs = Glob("{path}"), Glob("{path}/**")
    found = [name for name in names if any(glob.matches(name, claims) for glob in globs)]
    assert sorted(found) == sorted(yes)
    assert globs[0].claims == {"path"}
    assert all((globs[1].prefix(claims) is None) == (not yes) for _ in range(2))


def test_two_claims_may_stand_in_one_pattern() -> None:
    glob = Glob("{owner}/{app}/**")
    assert glob.matches("me/app/x", {"owner": "me", "app": "app"})
    assert not glob.matches("me/app/x", {"owner": "me"})


def test_claims_of_objects_have_a_slash_in_their_name() -> None:
    assert Glob("{kubernetes.io/namespace}/**").matches("team-a/x", {"kubernetes.io/namespace": "team-a"})


def test_a_pattern_with_many_stars_is_decided_at_once() -> None:
    began = time.process_time()
    assert not Glob("/**/".join("abcdefgh") + "/**/z").matches("/".join("abcdefgh" * 15), {})
    assert time.process_time() - began < 60


@pytest.mark.parametrize("pattern", ["**/a*-*-*-*b", "a*-*-*-*-*b", "**/a*b/**/b*a/**/c", "*a*a*a*a*/**/z"])
@pytest.mark.parametrize("name", ["a" + "-x" * 10_000, "/".join(["a-b"] * 10_000), "a" * 20_000])
def test_a_name_of_any_length_is_decided_at_once(pattern: str, name: str) -> None:
    began = time.process_time()
    assert not Glob(pattern).matches(name, {})
    assert not text_pattern("*a*-*a*-*a*!").fullmatch(name)
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a*b*c", ["abc", "a-b-b-c", "abcbc"], ["ab", "acb", "ab/c"]),
        ("*a*a", ["aa", "aba", "aaaa"], ["a", "ab"]),
        ("**/a*/**/*b/**/c", ["a/b/c", "x/a/ab/b/y/c", "a/a/b/b/c/c"], ["a/b", "b/a/c", "a/c/b"]),
        ("**/**/a", ["a", "b/a", "a/b/a"], ["ab"]),
        ("a/**/**", ["a/b", "a/b/c"], ["a"]),
    ],
)
def test_what_is_before_a_star_is_found_wherever_it_is(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [name for name in (*yes, *no) if Glob(pattern).matches(name, {})] == yes


def test_a_pattern_of_text_is_matched_as_a_whole() -> None:
    assert text_pattern("refs/tags/v*").fullmatch("refs/tags/v1/x")
    assert not text_pattern("refs/tags/v*").fullmatch("x/refs/tags/v1")
    assert not text_pattern("a.c").fullmatch("abc")
    assert text_pattern("*").fullmatch("")


@pytest.mark.parametrize(
    "pattern",
    ["**", "*", "team/**", "**/blobs", "a*_b", "*-x", "{path}", "{path}/x", "team/*/x", "x.y", "a--b", "**/storage/*"],
)
def test_a_pattern_that_a_name_could_match_is_told(pattern: str) -> None:
    assert Glob(pattern).can_match


@pytest.mark.parametrize(
    "pattern",
    ["storage/**", "team/blobs/**", "a/**/index.json", "team-/**", "-*", "a..*", "a___b", "x_-*", "*.", "a/_"],
)
def test_a_pattern_that_no_name_could_match_is_told(pattern: str) -> None:
    assert not Glob(pattern).can_match
