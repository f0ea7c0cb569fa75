"""Claims as text, as GitHub, GitLab and Kubernetes send them."""

from __future__ import annotations

from typing import Any

from registry.auth.oidc.claims import MOST, flatten


def test_claims_of_ci_and_clusters_become_text() -> None:
    claims: dict[str, Any] = {
        "repository": "octo/app",
        "run_attempt": "1",
        "ref_protected": True,
        "exp": 1800000000,
        "aud": ["registry", "other"],
        "nothing": None,
        "kubernetes.io": {"namespace": "team-a", "pod": {"name": "job-1", "uid": "u"}, "warnafter": 7},
        "mixed": ["a", 1, None, {"b": 1}, ["c"]],
    }
    assert flatten(claims) == {
        "repository": "octo/app",
        "run_attempt": "1",
        "ref_protected": "true",
        "exp": "1800000000",
        "aud": ("registry", "other"),
        "kubernetes.io/namespace": "team-a",
        "kubernetes.io/pod/name": "job-1",
        "kubernetes.io/pod/uid": "u",
        "kubernetes.io/warnafter": "7",
        "mixed": ("a", "1"),
    }


def test_a_name_with_two_meanings_has_none() -> None:
    assert flatten({"a/b": "one", "a": {"b": "two"}, "c": "three"}) == {"c": "three"}


def test_deep_and_many_claims_are_bounded() -> None:
    deep: dict[str, Any] = {"end": "x"}
    for _ in range(900):
        deep = {"a": deep}
    assert flatten(deep) == {}
    assert len(flatten({str(number): "x" for number in range(10 * MOST)})) == MOST
