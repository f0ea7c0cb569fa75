"""A token is verified by what knows its issuer, and a token of ours is no password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.auth.identity import ANONYMOUS, Kind
from registry.auth.issuers import Issuers, create_issuers
from registry.auth.jwt import Jwt
from registry.auth.key_source import KeyFile
from registry.auth.oidc.provider import Provider, Used
from registry.auth.tokens.bearer import Bearer
from registry.auth.tokens.external import ExternalTokens
from registry.auth.tokens.signing_keys import FileKeys
from registry.auth.tokens.token import Tokens
from registry.config.file import ConfigError
from registry.config.token_sections import ExternalTokenSettings, OidcSettings, TokenSettings
from registry.database.engine import Database
from registry.oci.errors import Unauthorized
from tests.auth.signing import forged, jwks, rsa, signed
from tests.auth.tokens.test_bearer import ALICE, People
from tests.support.sqlite import create_current

FAR = 4_000_000_000


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    (tmp_path / "secret").write_bytes(b"s" * 32)
    return Tokens(FileKeys(tmp_path / "secret"), "registry", 3600)


@pytest.fixture
def issuers(tokens: Tokens, tmp_path: Path) -> Issuers:
    for name, key in (("external", rsa(1)), ("provider", rsa(2))):
        (tmp_path / name).write_bytes(jwks(key))
    settings = [OidcSettings(name=name, issuer="https://sso", audiences=(name,)) for name in ("ci", "people")]
    keys, used = KeyFile(tmp_path / "provider"), Used(frozenset(), frozenset())
    return Issuers(
        Bearer(tokens, People(), ["ci", "people"]),
        ExternalTokens(KeyFile(tmp_path / "external"), issuer="auth", service="registry"),
        [Provider(each, keys, used) for each in settings],
    )


def of_provider(audience: str, issuer: str = "https://sso") -> str:
    return signed(rsa(2), "RS256", {"iss": issuer, "aud": audience, "sub": "bob", "exp": FAR})


def test_each_issuer_has_its_own_keys(tokens: Tokens, issuers: Issuers) -> None:
    external = {"iss": "auth", "aud": "registry", "sub": "carol", "exp": FAR}
    assert issuers.of_bearer(tokens.access(ALICE, ())).identity.who == "alice"
    assert issuers.of_bearer(signed(rsa(1), "RS256", external)).identity.kind is Kind.EXTERNAL
    assert issuers.of_bearer(of_provider("ci")).identity.who == "oidc:ci/bob"
    assert issuers.of_bearer(of_provider("people")).identity.who == "oidc:people/bob"
    for claims in (external | {"iss": "registry"}, external | {"iss": "https://sso", "aud": "ci"}):
        with pytest.raises(Unauthorized):
            issuers.of_bearer(signed(rsa(1), "RS256", claims))


def test_only_a_token_of_a_provider_is_a_password(tokens: Tokens, issuers: Issuers) -> None:
    assert issuers.of_provider(of_provider("people")).identity.who == "oidc:people/bob"
    external = signed(rsa(1), "RS256", {"iss": "auth", "aud": "registry", "sub": "carol", "exp": FAR})
    for text in (tokens.access(ALICE, ()), tokens.refresh(ALICE), tokens.access(ANONYMOUS, ()), external):
        with pytest.raises(Unauthorized):
            issuers.of_provider(text)


def test_an_issuer_that_is_not_configured_is_refused(issuers: Issuers) -> None:
    claims = dict(Jwt.parse(of_provider("ci")).claims)
    for text in (
        of_provider("ci", "https://evil"),
        of_provider("elsewhere"),
        forged({"alg": "none"}, claims),
        forged({"alg": "none"}, claims | {"iss": None}),
        forged({"alg": "none"}, claims | {"iss": ["https://sso"]}),
        "secret",
        "",
    ):
        for ask in (issuers.of_bearer, issuers.of_provider):
            with pytest.raises(Unauthorized):
                ask(text)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(create_current(tmp_path / "cache.db"))
    yield opened
    opened.close()


def created(database: Database, settings: TokenSettings, *providers: OidcSettings) -> Issuers:
    """The issuers of these settings, of a registry in which alice is a user."""
    used = Used(frozenset(), frozenset())
    return create_issuers(settings, providers, service="registry", used=used, database=database, directory=People())


def test_the_issuers_of_settings_believe_what_the_settings_say(database: Database, tmp_path: Path) -> None:
    for name, key in (("external", rsa(1)), ("provider", rsa(2))):
        (tmp_path / name).write_bytes(jwks(key))
    external = ExternalTokenSettings(
        realm="https://auth/token", issuer="auth", service="registry", keys_file=tmp_path / "external"
    )
    provider = OidcSettings(name="ci", issuer="https://sso", audiences=("ci",), jwks_file=tmp_path / "provider")
    made = created(database, TokenSettings(external=external), provider)
    claims = {"iss": "auth", "aud": "registry", "sub": "carol", "exp": FAR}
    assert made.of_bearer(made.own.tokens.access(ALICE, ())).identity.who == "alice"
    assert made.of_bearer(signed(rsa(1), "RS256", claims)).identity.who == "external:carol"
    assert made.of_provider(of_provider("ci")).identity.who == "oidc:ci/bob"


@pytest.mark.parametrize("content", [b"", b"short", b"-----BEGIN X-----\n-----END X-----"])
def test_a_file_without_usable_keys_is_a_mistake_in_the_configuration(
    database: Database, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    external = ExternalTokenSettings(realm="https://auth/token", issuer="auth", service="registry", keys_file=path)
    provider = OidcSettings(name="ci", issuer="https://sso", audiences=("ci",), jwks_file=path)
    for settings, providers, key in (
        (TokenSettings(key_file=path), [], "auth.token.key_file"),
        (TokenSettings(external=external), [], "auth.token.external.keys_file"),
        (TokenSettings(), [provider], "auth.oidc.jwks_file"),
    ):
        with pytest.raises(ConfigError, match=key):
            created(database, settings, *providers)
