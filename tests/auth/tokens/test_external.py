"""Tokens of a service that is not ours: its keys are in a file, which may change while the registry serves.

Check 13.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.auth.identity import Kind
from registry.auth.key_source import KeyFile
from registry.auth.tokens.external import ExternalTokens
from registry.oci.errors import Unauthorized
from tests.auth.signing import ec, forged, jwks, rsa, signed

NOW = 1_800_000_000.0
CLAIMS: dict[str, Any] = {
    "iss": "auth.example.org",
    "aud": "registry.example.org",
    "sub": "alice",
    "exp": NOW + 300,
    "nbf": NOW,
    "access": [{"type": "repository", "name": "app", "actions": ["pull", "push"]}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(jwks(rsa()))
    return path


def service(path: Path) -> ExternalTokens:
    keys = KeyFile(path)
    return ExternalTokens(keys, issuer="auth.example.org", service="registry.example.org", clock=lambda: NOW)


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def test_a_token_allows_what_its_service_says(path: Path) -> None:
    identity, until = service(path).identify(signed(rsa(), "RS256", CLAIMS))
    assert (identity.kind, identity.name, until) == (Kind.EXTERNAL, "alice", NOW + 300)
    assert identity.scope is not None
    assert identity.scope.allows("push", "app")
    assert not identity.scope.allows("delete", "app")


def test_a_token_without_a_subject_or_access_allows_nothing(path: Path) -> None:
    claims = {name: value for name, value in CLAIMS.items() if name not in {"sub", "access"}}
    identity = service(path).identify(signed(rsa(), "RS256", claims)).identity
    assert identity.who == "external:"
    assert identity.scope is not None
    assert not identity.scope.allows("pull", "app")


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"exp": NOW - 61},
        {"sub": ["alice"]},
        {"access": "repository:app:pull"},
        {"access": [{"type": "repository", "name": "app"}]},
        {"access": [1]},
    ],
    ids=str,
)
def test_a_token_of_another_form_is_refused(path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized):
        service(path).identify(signed(rsa(), "RS256", CLAIMS | change))


def test_keys_of_the_header_are_not_followed(path: Path) -> None:
    for text in (
        signed(rsa(1), "RS256", CLAIMS, jwk=rsa(1).as_dict(private=False), kid="rsa-0"),
        signed(rsa(1), "RS256", CLAIMS, x5c=["MIIB"], kid=None),
        forged({"alg": "HS256", "kid": "rsa-0"}, CLAIMS, rsa().as_pem(private=False)),
        forged({"alg": "none"}, CLAIMS),
    ):
        with pytest.raises(Unauthorized):
            service(path).identify(text)


def test_a_new_file_of_keys_takes_effect_and_a_broken_one_does_not(path: Path) -> None:
    found = service(path)
    replace(path, rsa(1).as_pem(private=False) + ec().as_pem(private=False))
    for text in (signed(rsa(1), "RS256", CLAIMS, kid=rsa(1).thumbprint()), signed(ec(), "ES256", CLAIMS, kid=None)):
        assert found.identify(text).identity.name == "alice"
    with pytest.raises(Unauthorized):
        found.identify(signed(rsa(), "RS256", CLAIMS))
    replace(path, b"nothing")
    assert found.identify(signed(ec(), "ES256", CLAIMS, kid=None)).identity.name == "alice"
