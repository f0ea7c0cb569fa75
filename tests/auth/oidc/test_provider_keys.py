"""How often a provider is asked, and what stands when it does not answer (check 14)."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest

from registry.auth.oidc.discovery import DISCOVERY
from registry.auth.oidc.documents import FetchFailed
from registry.auth.oidc.kept import FRESH, LOOK_AGAIN, RETRY, WAITING
from registry.auth.oidc.provider_keys import ProviderKeys
from registry.oci.errors import Unavailable
from tests.auth.signing import jwks, rsa

ISSUER = "https://issuer.example.org/realm"


class Provider:
    """A provider without a network, and the clock of its caller."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.discovery: Any = {"issuer": ISSUER, "jwks_uri": "https://keys.example.org/keys"}
        self.document = jwks(rsa())
        self.is_up = True
        self.asked: list[str] = []
        self.keys = ProviderKeys(ISSUER, self.fetch, lambda: self.now)

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if not self.is_up:
            raise FetchFailed("it is down")
        return orjson.dumps(self.discovery) if url.endswith(DISCOVERY) else self.document


@pytest.fixture
def provider() -> Provider:
    return Provider()


def test_keys_come_by_the_discovery_document_of_the_configured_issuer(provider: Provider) -> None:
    assert provider.keys.keys().find("rsa-0", "RS256") is not None
    assert provider.asked == [ISSUER + DISCOVERY, "https://keys.example.org/keys"]


def test_keys_are_kept_for_an_hour(provider: Provider) -> None:
    provider.keys.keys()
    provider.now += FRESH - 1
    provider.keys.keys()
    assert len(provider.asked) == 2
    provider.document = jwks(rsa(1))
    provider.now += 1
    assert provider.keys.keys().find("rsa-1", "RS256") is not None
    assert len(provider.asked) == 4


def test_a_thousand_unknown_keys_make_one_fetch_a_minute(provider: Provider) -> None:
    provider.keys.keys()
    provider.now += LOOK_AGAIN
    for _ in range(1000):
        provider.keys.look_again()
        provider.now += LOOK_AGAIN / 1001
    assert len(provider.asked) == 4
    provider.document = jwks(rsa(1))
    provider.now += LOOK_AGAIN
    assert provider.keys.look_again().find("rsa-1", "RS256") is not None


def test_kept_keys_outlive_the_provider_and_it_is_asked_once_a_minute_then(provider: Provider) -> None:
    provider.keys.keys()
    provider.is_up = False
    provider.now += FRESH
    for _ in range(100):
        assert provider.keys.keys().find("rsa-0", "RS256") is not None
    assert len(provider.asked) == 3
    provider.now += LOOK_AGAIN
    provider.is_up = True
    provider.keys.keys()
    assert len(provider.asked) == 5


def test_without_any_keys_callers_are_told_to_come_again(provider: Provider) -> None:
    provider.is_up = False
    for ask in (provider.keys.keys, provider.keys.look_again, provider.keys.keys):
        with pytest.raises(Unavailable):
            ask()
    assert len(provider.asked) == 1
    provider.is_up = True
    provider.now += RETRY
    assert provider.keys.keys().find("rsa-0", "RS256") is not None


def test_callers_that_waited_for_a_silent_provider_do_not_wait_for_it_again(provider: Provider) -> None:
    provider.is_up = False
    fetch = provider.fetch

    def slow(url: str) -> bytes:
        provider.now += 10
        return fetch(url)

    keys = ProviderKeys(ISSUER, slow, lambda: provider.now)
    for _ in range(WAITING):
        with pytest.raises(Unavailable):
            keys.keys()
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "https://issuer.example.org", "jwks_uri": "https://keys.example.org/keys"},
        {"issuer": ISSUER + "/", "jwks_uri": "https://keys.example.org/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://keys.example.org/keys"},
        {
            "issuer": ISSUER,
            "jwks_uri": "http://127.0.0.1:9000/keys",
        },  # what listens here is not for a provider elsewhere
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
        {"issuer": ISSUER, "jwks_uri": ["https://keys.example.org/keys"]},
        {"issuer": ISSUER},
        [],
        None,
    ],
)
def test_a_discovery_document_that_may_be_anothers_is_not_followed(provider: Provider, discovery: Any) -> None:
    provider.discovery = discovery
    with pytest.raises(Unavailable):
        provider.keys.keys()
    assert provider.asked == [ISSUER + DISCOVERY]


def test_a_document_without_keys_replaces_none(provider: Provider) -> None:
    provider.keys.keys()
    provider.document = b'{"keys":[]}'
    provider.now += FRESH
    assert provider.keys.keys().find("rsa-0", "RS256") is not None


def test_few_callers_wait_for_the_first_keys_and_the_rest_is_told_to_come_again(provider: Provider) -> None:
    began, go_on, found = threading.Event(), threading.Event(), list[bool]()
    fetch = provider.fetch

    def slow(url: str) -> bytes:
        began.set()
        assert go_on.wait(60)
        return fetch(url)

    keys = ProviderKeys(ISSUER, slow, lambda: provider.now)
    threads = [threading.Thread(target=lambda: found.append(bool(keys.keys()))) for _ in range(WAITING)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    while keys._kept._waiting._value:
        pass
    with pytest.raises(Unavailable):
        keys.keys()
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [True] * WAITING
    assert len(provider.asked) == 2
