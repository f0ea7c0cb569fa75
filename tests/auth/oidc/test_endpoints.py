"""Endpoints of a provider: those of its discovery document, over HTTPS, kept while it is silent."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from registry.auth.oidc.discovery import DISCOVERY
from registry.auth.oidc.documents import FetchFailed
from registry.auth.oidc.endpoints import ProviderEndpoints
from registry.auth.oidc.kept import FRESH, RETRY
from registry.oci.errors import Unavailable

ISSUER = "https://issuer.example.org"


class Provider:
    """A provider without a network, and the clock of its caller."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.document: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
        }
        self.is_up = True
        self.asked = 0
        self.endpoints = ProviderEndpoints(ISSUER, self.fetch, lambda: self.now)

    def fetch(self, url: str) -> bytes:
        assert url == ISSUER + DISCOVERY
        self.asked += 1
        if not self.is_up:
            raise FetchFailed("it is down")
        return orjson.dumps(self.document)


def test_endpoints_are_those_of_the_document_and_kept() -> None:
    provider = Provider()
    found = provider.endpoints.find()
    assert found == (f"{ISSUER}/authorize", f"{ISSUER}/token", False, False, None)
    provider.is_up = False
    provider.now += FRESH
    for _ in range(100):
        assert provider.endpoints.find() == found
    assert provider.asked == 2


@pytest.mark.parametrize(
    ("methods", "in_body"),
    [
        (None, False),
        (["client_secret_basic", "client_secret_post"], False),
        (["client_secret_post"], True),
        (["private_key_jwt"], False),
        ("client_secret_post", False),
    ],
)
def test_the_secret_goes_where_the_provider_takes_it(methods: object, in_body: bool) -> None:
    provider = Provider()
    provider.document["token_endpoint_auth_methods_supported"] = methods
    assert provider.endpoints.find().secret_in_body is in_body


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "issuer"])
@pytest.mark.parametrize("value", [None, 1, "http://issuer.example.org/x", "javascript:alert(1)", "/authorize"])
def test_an_endpoint_that_any_machine_between_could_be_is_not_used(name: str, value: object) -> None:
    provider = Provider()
    provider.document[name] = value
    for _ in range(10):
        with pytest.raises(Unavailable):
            provider.endpoints.find()
    assert provider.asked == 1
    provider.document |= Provider().document
    provider.now += RETRY
    assert provider.endpoints.find().token == f"{ISSUER}/token"


@pytest.mark.parametrize("value", [None, 1, "http://issuer.example.org/x", "javascript:alert(1)", "/logout"])
def test_a_place_to_log_out_that_cannot_be_used_stops_no_login(value: object) -> None:
    provider = Provider()
    provider.document["end_session_endpoint"] = value
    assert provider.endpoints.find().end_session is None
    good = Provider()
    good.document["end_session_endpoint"] = f"{ISSUER}/logout"
    assert good.endpoints.find().end_session == f"{ISSUER}/logout"
