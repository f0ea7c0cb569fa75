"""How an identity is named in rules and in the journal."""

from __future__ import annotations

import pytest

from registry.auth.identity import ANONYMOUS, Identity, Kind


@pytest.mark.parametrize(
    ("identity", "who", "actor"),
    [
        (Identity(Kind.USER, "alice"), "alice", "user:alice"),
        (Identity(Kind.KEY, "0f3a"), "key:0f3a", "key:0f3a"),
        (Identity(Kind.OIDC, "sso/alice"), "oidc:sso/alice", "oidc:sso/alice"),
        (Identity(Kind.OIDC, "ci/team/app"), "oidc:ci/team/app", "oidc:ci/team/app"),
        (Identity(Kind.OIDC, "sso/alice", is_user=True), "alice", "oidc:sso/alice"),
        (Identity(Kind.CERTIFICATE, "spiffe://org/ci"), "cert:spiffe://org/ci", "cert:spiffe://org/ci"),
        (ANONYMOUS, "anonymous", "anonymous"),
    ],
)
def test_an_identity_has_one_name_for_rules_and_one_for_the_journal(identity: Identity, who: str, actor: str) -> None:
    assert (identity.who, identity.actor) == (who, actor)
