"""A provider that is a program of another project: its discovery, its keys and its tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.auth.jwt import Jwt
from registry.auth.oidc.documents import Documents
from registry.auth.oidc.provider import Provider, Used
from registry.auth.oidc.provider_keys import ProviderKeys
from registry.config.token_sections import OidcSettings
from registry.oci.errors import Unauthorized
from tests.auth.oidc.zitadel import CLIENT, Zitadel

pytestmark = pytest.mark.tools(Zitadel.name)


@pytest.fixture(scope="module")
def zitadel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zitadel]:
    with Zitadel(tmp_path_factory.mktemp("zitadel")) as running:
        yield running


def provider(zitadel: Zitadel, audience: str) -> Provider:
    settings = OidcSettings(name="sso", issuer=zitadel.issuer, audiences=(audience,), user="preferred_username")
    keys = ProviderKeys(zitadel.issuer, Documents().fetch)
    return Provider(settings, keys, Used(frozenset({"locale"}), frozenset()))


def test_a_login_at_another_program_proves_an_identity_here(zitadel: Zitadel) -> None:
    token = Jwt.parse(zitadel.login("test-user2", "verysecure"))
    found = provider(zitadel, CLIENT).identify(token).identity
    assert found.who == "oidc:sso/test-user2"
    assert found.claims == {"locale": "de"}
    with pytest.raises(Unauthorized, match="aud"):
        provider(zitadel, "registry").identify(token)
