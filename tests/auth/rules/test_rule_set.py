"""Which rule allows what to which identity; adding a rule takes nothing away, and no order of them means anything.

Check 18.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.rules.rule_set import RuleSet
from registry.config.access_sections import AccessRule

ALICE = Identity(Kind.USER, "alice", frozenset({"team-a"}))
BOB = Identity(Kind.USER, "bob")
KEY = Identity(Kind.KEY, "ci-a", frozenset({"team-a"}))
ROOT = Identity(Kind.USER, "root")
STRANGER = Identity(Kind.OIDC, "github/evil/app", claims={"ref": "refs/heads/main", "repository_id": "666"})
GITHUB = Identity(Kind.OIDC, "github/octo/app", claims={"ref": "refs/tags/v1", "repository_id": "123456"})
BRANCH = Identity(Kind.OIDC, "github/octo/app", claims={"ref": "refs/heads/feature", "repository_id": "123456"})
GITLAB = Identity(Kind.OIDC, "gitlab/team/app", claims={"project_path": "team/app", "ref_protected": "true"})
UPPER = Identity(Kind.OIDC, "gitlab/Team/app", claims={"project_path": "Team/app", "ref_protected": "true"})
STARRED = Identity(Kind.OIDC, "gitlab/x", claims={"project_path": "**", "ref_protected": "true"})
LISTED = Identity(Kind.OIDC, "gitlab/x", claims={"project_path": ("team/app",), "ref_protected": "true"})
OPEN = Identity(Kind.OIDC, "gitlab/team/app", claims={"project_path": "team/app", "ref_protected": "false"})
POD = Identity(Kind.OIDC, "cluster/system:serviceaccount:team-a:x", claims={"kubernetes.io/namespace": "team-a"})
SSO = Identity(Kind.OIDC, "sso/carol", frozenset({"sso/dev"}))
SSO_ALICE = Identity(Kind.OIDC, "sso/alice")
SSO_BELOW_CAROL = Identity(Kind.OIDC, "sso/carol/x")
AS_USER = Identity(Kind.OIDC, "sso/alice", is_user=True)
CERTIFICATE = Identity(Kind.CERTIFICATE, "spiffe://org/ci/app")
ROLES = Identity(Kind.OIDC, "sso/dave", claims={"roles": ("reader", "pusher")})

RULES: list[dict[str, Any]] = [
    {"who": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
    {"who": ["authenticated"], "repositories": ["shared/**"], "actions": ["pull"]},
    {"who": ["group:team-a"], "repositories": ["team-a/**"], "actions": ["push", "delete"]},
    {
        "who": ["oidc:gitlab"],
        "repositories": ["{project_path}", "{project_path}/**"],
        "claims": {"ref_protected": "true"},
        "actions": ["push"],
    },
    {
        "who": ["oidc:github"],
        "repositories": ["app/**"],
        "claims": {"repository_id": "123456", "ref": ["refs/heads/main", "refs/tags/v*"]},
        "actions": ["push"],
    },
    {
        "who": ["oidc:cluster"],
        "repositories": ["team-a/**"],
        "claims": {"kubernetes.io/namespace": "team-a"},
        "actions": ["pull"],
    },
    {"who": ["root"], "repositories": ["**"], "actions": ["*"]},
    {"who": ["alice"], "repositories": ["alice/*"], "actions": ["pull"]},
    {"who": ["oidc:sso/carol"], "repositories": ["carol"], "actions": ["push"]},
    {"who": ["cert:spiffe://org/ci/*"], "repositories": ["ci/**"], "actions": ["pull"]},
    {"who": ["oidc:sso"], "repositories": ["roles"], "claims": {"roles": "pusher"}, "actions": ["push"]},
    {"who": ["key:ci-a"], "repositories": ["ci"], "actions": ["push"]},
    {"who": ["group:sso/dev"], "repositories": ["dev/**"], "actions": ["pull"]},
]

TABLE = [
    # Identity, action, repository, the number of the rule that allows it; None if none does.
    (ANONYMOUS, "pull", "public/a", 1),
    (ANONYMOUS, "pull", "public", None),
    (ANONYMOUS, "push", "public/a", None),
    (ANONYMOUS, "pull", "shared/a", None),
    (ANONYMOUS, "pull", "publicly/a", None),
    (BOB, "pull", "public/a", 1),
    (STRANGER, "pull", "public/a", 1),
    (BOB, "pull", "shared/a", 2),
    (KEY, "pull", "shared/a", 2),
    (CERTIFICATE, "pull", "shared/a", 2),
    (STRANGER, "pull", "shared/a", None),
    (SSO, "pull", "shared/a", 2),
    (ALICE, "push", "team-a/x", 3),
    (ALICE, "pull", "team-a/x", 3),
    (ALICE, "delete", "team-a/x", 3),
    (ALICE, "admin", "team-a/x", None),
    (KEY, "push", "team-a/x", 3),
    (BOB, "pull", "team-a/x", None),
    (ALICE, "pull", "team-a", None),
    (ALICE, "pull", "team-ab/x", None),
    (GITLAB, "push", "team/app", 4),
    (GITLAB, "pull", "team/app", 4),
    (GITLAB, "push", "team/app/base", 4),
    (GITLAB, "delete", "team/app", None),
    (GITLAB, "push", "team/app2", None),
    (GITLAB, "push", "team", None),
    (GITLAB, "push", "x/team/app", None),
    (OPEN, "push", "team/app", None),
    (UPPER, "push", "Team/app", None),
    (UPPER, "push", "team/app", None),
    (STARRED, "push", "team/app", None),
    (LISTED, "push", "team/app", None),
    (GITHUB, "push", "app/x", 5),
    (GITHUB, "push", "app", None),
    (BRANCH, "push", "app/x", None),
    (BRANCH, "pull", "app/x", None),
    (STRANGER, "push", "app/x", None),
    (STRANGER, "pull", "app/x", None),
    (STRANGER, "push", "evil/app", None),
    (POD, "pull", "team-a/x", 6),
    (POD, "push", "team-a/x", None),
    (ROOT, "pull", "any/thing", 7),
    (ROOT, "push", "any/thing", 7),
    (ROOT, "delete", "any/thing", 7),
    (ROOT, "admin", "any/thing", 7),
    (ROOT, "pull", "public/a", 1),
    (ALICE, "pull", "alice/x", 8),
    (ALICE, "pull", "alice/x/y", None),
    (SSO_ALICE, "pull", "alice/x", None),
    (AS_USER, "pull", "alice/x", 8),
    (SSO, "push", "carol", 9),
    (SSO_ALICE, "push", "carol", None),
    (SSO_BELOW_CAROL, "push", "carol", None),
    (CERTIFICATE, "pull", "ci/x", 10),
    (CERTIFICATE, "push", "ci/x", None),
    (ROLES, "push", "roles", 11),
    (SSO, "push", "roles", None),
    (KEY, "push", "ci", 12),
    (Identity(Kind.USER, "ci-a"), "push", "ci", None),
    (Identity(Kind.USER, "key"), "push", "ci", None),
    (SSO, "pull", "dev/x", 13),
    (Identity(Kind.USER, "dev", frozenset({"dev"})), "pull", "dev/x", None),
]


def rules(*chosen: dict[str, Any]) -> RuleSet:
    return RuleSet([AccessRule(**rule) for rule in chosen], ["sso"])


@pytest.mark.parametrize(("identity", "action", "repository", "number"), TABLE)
def test_a_rule_allows_or_none_does(identity: Identity, action: str, repository: str, number: int | None) -> None:
    found = rules(*RULES).find(identity, action, repository)
    assert (found and found.number) == number


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(RULES), unique_by=id), st.sampled_from(RULES), st.randoms())
def test_adding_a_rule_takes_nothing_away_and_order_means_nothing(
    chosen: list[Any], more: dict[str, Any], random: Random
) -> None:
    shuffled = [*chosen, more]
    random.shuffle(shuffled)
    before, after, other = rules(*chosen), rules(*chosen, more), rules(*shuffled)
    for identity, action, repository, _ in TABLE:
        asked = (identity, action, repository)
        assert not before.allows(*asked) or after.allows(*asked)
        assert after.allows(*asked) == other.allows(*asked)
        assert after.prefixes(identity, action) == other.prefixes(identity, action)


def test_every_name_that_is_allowed_begins_with_one_of_the_prefixes() -> None:
    found = rules(*RULES)
    for identity, action, repository, number in TABLE:
        if number is not None:
            assert any(repository.startswith(prefix) for prefix in found.prefixes(identity, action))
    assert found.prefixes(ANONYMOUS, "pull") == ["public/"]
    assert found.prefixes(ANONYMOUS, "push") == []
    assert found.prefixes(ROOT, "pull") == [""]
    assert found.prefixes(GITLAB, "pull") == ["public/", "team/app"]


def test_what_concerns_no_repository_needs_a_rule_for_all() -> None:
    some = {"who": ["alice"], "repositories": ["team/**"], "actions": ["admin"]}
    assert rules(*RULES).is_admin(ROOT)
    assert not rules(some).is_admin(ALICE)


def test_the_rules_say_what_they_look_at() -> None:
    used = rules(*RULES).used
    assert used.claims - {"sub"} == {
        "project_path",
        "ref_protected",
        "repository_id",
        "ref",
        "kubernetes.io/namespace",
        "roles",
    }
    assert used.groups == {"team-a", "sso/dev"}


def test_a_key_with_an_owner_has_the_rights_of_its_owner_and_no_other() -> None:
    alice = Identity(Kind.USER, "alice", frozenset({"team"}))
    owned = Identity(Kind.KEY, "1", frozenset({"robots"}), owner=alice)
    alone = Identity(Kind.KEY, "2", frozenset({"robots"}))
    found = rules(
        {"who": ["group:team"], "repositories": ["team/**"], "actions": ["pull"]},
        {"who": ["key:1", "group:robots"], "repositories": ["robots/**"], "actions": ["pull"]},
    )
    assert found.allows(owned, "pull", "team/app")
    assert not found.allows(owned, "pull", "robots/app")
    assert found.allows(alone, "pull", "robots/app")
    assert not found.allows(alone, "pull", "team/app")
