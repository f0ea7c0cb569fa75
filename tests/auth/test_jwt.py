"""What a token must be to be believed, and everything that attackers of other registries have sent (check 13)."""

from __future__ import annotations

from typing import Any

import pytest

from registry.auth.jwt import LEEWAY, MAX_CHARACTERS, Jwt, JwtInvalid, KeyUnknown, looks_like_jwt
from registry.auth.key_set import KeySet, of_jwks, of_secret
from tests.auth.signing import ec, ed25519, encoded, forged, jwks, rsa, signed

NOW = 1_800_000_000.0
ISSUER = "https://issuer.example.org"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": "registry", "sub": "alice", "exp": NOW + 300, "iat": NOW, "nbf": NOW}
SECRET = b"s" * 32


def keys() -> KeySet:
    return of_jwks(jwks(rsa(), ec(), ec("P-384"), ed25519()))


def believed(text: str, known: KeySet | None = None) -> dict[str, Any]:
    token = Jwt.parse(text)
    token.verify(known or keys(), issuer=ISSUER, audiences=frozenset({"other", "registry"}), now=NOW)
    return dict(token.claims)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa, "RS256"),
        (rsa, "RS512"),
        (rsa, "PS256"),
        (ec, "ES256"),
        (lambda: ec("P-384"), "ES384"),
        (ed25519, "Ed25519"),
    ],
)
def test_a_token_of_each_algorithm_is_believed(key: Any, algorithm: str) -> None:
    assert believed(signed(key(), algorithm, CLAIMS)) == CLAIMS


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_the_older_name_of_ed25519_is_believed() -> None:
    assert believed(signed(ed25519(), "EdDSA", CLAIMS)) == CLAIMS


def test_a_token_without_a_kid_is_checked_with_the_only_key_that_fits() -> None:
    assert believed(signed(rsa(), "RS256", CLAIMS, kid=None)) == CLAIMS
    with pytest.raises(KeyUnknown):
        believed(signed(rsa(), "RS256", CLAIMS, kid=None), of_jwks(jwks(rsa(), rsa(1))))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://issuer.example.org.evil"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "elsewhere"},
        {"aud": None},
        {"aud": []},
        {"aud": {"registry": 1}},
        {"aud": [["registry"]]},
        {"exp": NOW - LEEWAY},
        {"exp": None},
        {"exp": "4000000000"},
        {"exp": True},
        {"exp": 1e400},
        {"nbf": NOW + LEEWAY + 1},
        {"nbf": "0"},
        {"iat": NOW + LEEWAY + 1},
    ],
    ids=str,
)
def test_claims_that_do_not_hold_are_refused(change: dict[str, Any]) -> None:
    claims = {name: value for name, value in (CLAIMS | change).items() if value is not None}
    with pytest.raises(JwtInvalid):
        believed(signed(rsa(), "RS256", claims))


@pytest.mark.parametrize("change", [{"exp": NOW - LEEWAY + 1}, {"nbf": NOW + LEEWAY}, {"aud": ["x", "registry"]}])
def test_clocks_may_differ_by_a_minute_and_audiences_be_a_list(change: dict[str, Any]) -> None:
    assert believed(signed(rsa(), "RS256", CLAIMS | change)) == CLAIMS | change


def test_a_changed_token_is_refused() -> None:
    text = signed(rsa(), "RS256", CLAIMS)
    head, payload, signature = text.split(".")
    other = encoded(b'{"iss":"https://issuer.example.org","aud":"registry","sub":"bob","exp":4000000000}')
    for changed in (
        f"{head}.{other}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}.{'A' + signature[1:] if signature[0] != 'A' else 'B' + signature[1:]}",
        signed(rsa(1), "RS256", CLAIMS, kid="rsa-0"),
    ):
        with pytest.raises(JwtInvalid):
            believed(changed)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "RS256", "ES256", "dir", "x" * 400])
def test_an_algorithm_that_is_not_the_keys_own_is_refused(algorithm: str) -> None:
    for key_id in ("rsa-0", "ec-P-256", None):
        for secret in (None, b"", rsa().as_pem(private=False), jwks(rsa())):
            header = {"alg": algorithm, "kid": key_id} if key_id else {"alg": algorithm}
            with pytest.raises(JwtInvalid):
                believed(forged(header, CLAIMS, secret))


def test_a_secret_verifies_only_its_own_algorithm() -> None:
    own = KeySet([of_secret("own", SECRET)])
    assert believed(forged({"alg": "HS256", "kid": "own"}, CLAIMS, SECRET), own) == CLAIMS
    for header in ({"alg": "HS512", "kid": "own"}, {"alg": "none", "kid": "own"}, {"alg": "HS256", "kid": "../own"}):
        with pytest.raises(KeyUnknown):
            believed(forged(header, CLAIMS, SECRET), own)


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": rsa(2).as_dict(private=False)},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/keys"},
        {"x5c": ["MIIB"]},
        {"kid": "/dev/null"},
        {"kid": "../../etc/passwd"},
        {"kid": "rsa-2"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_key_that_the_token_brings_is_not_used(header: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(socket, "socket", None)  # nothing is asked anywhere
    with pytest.raises(JwtInvalid):
        believed(signed(rsa(2), "RS256", CLAIMS, **{"kid": "rsa-0", **header}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eyJ",
        "a.b.c",
        "eyJ.e.f",
        "eyJ9.e30.",
        f"{encoded(b'{}')}.{encoded(b'[]')}.",
        forged(b'{"alg":"RS256","alg":"none"}', CLAIMS),
        forged(b'{"alg":["RS256"]}', CLAIMS),
        forged(b'{"alg":"RS256","kid":1}', CLAIMS),
        forged({"alg": "RS256", "crit": ["exp"]}, CLAIMS),
        forged({"alg": "RS256", "b64": False}, CLAIMS),
        forged({"alg": "RS256"}, b'{"sub":"a","sub":"b"}'),
        forged({"alg": "RS256"}, b'{"sub":"\xff"}'),
        forged({"alg": "RS256"}, b"[" * 5000),
        forged({"alg": "RS256"}, {"sub": "a" * MAX_CHARACTERS}),
        forged({"alg": "RS256"}, CLAIMS) + ".x",
        forged({"alg": "RS256"}, CLAIMS) + "=",
        forged({"alg": "RS256"}, CLAIMS) + "\n",
    ],
    ids=range(18),
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(JwtInvalid):
        believed(text)


def test_passwords_do_not_look_like_a_token_and_tokens_do() -> None:
    assert looks_like_jwt(signed(rsa(), "RS256", CLAIMS))
    assert not any(looks_like_jwt(text) for text in ("", "secret", "a.b.c", "eyJhbGciOiJub25lIn0", "stw_x"))
