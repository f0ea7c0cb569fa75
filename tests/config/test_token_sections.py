"""Mistakes in the settings of tokens and identity providers that would let strangers in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from registry.config.token_sections import ExternalTokenSettings, OidcSettings, TokenSettings

GOOD: dict[str, Any] = {"name": "ci", "issuer": "https://ci.example.org/", "audiences": ["registry"]}


def test_an_issuer_is_kept_as_its_tokens_have_it() -> None:
    assert OidcSettings(**GOOD).issuer == "https://ci.example.org/"
    assert OidcSettings(**GOOD | {"issuer": "http://127.0.0.1:8000"}).issuer == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "http://ci.example.org"},
        {"issuer": "ci.example.org"},
        {"audiences": []},
        {"audiences": None},
        {"name": "a/b"},
        {"name": "a:b"},
        {"name": ""},
        {"user": ""},
        {"jwks_file": "/no/such/file"},
        {"audience": "registry"},
    ],
    ids=str,
)
def test_a_provider_of_which_something_is_missing_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OidcSettings(**GOOD | change)


def test_audiences_in_the_environment_need_no_json() -> None:
    assert OidcSettings(**GOOD | {"audiences": "registry, other"}).audiences == ("registry", "other")


@pytest.mark.parametrize(
    "change", [{"expires": 59}, {"expires": 31 * 86400}, {"service": ""}, {"key_file": "/no/such"}]
)
def test_tokens_that_end_too_soon_or_too_late_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TokenSettings(**change)


def test_a_token_service_needs_all_that_its_tokens_say(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch()
    good: dict[str, Any] = {"realm": "https://auth/token", "issuer": "auth", "service": "registry", "keys_file": keys}
    assert ExternalTokenSettings(**good).keys_file == keys
    for name in good:
        with pytest.raises(ValidationError):
            ExternalTokenSettings(**{key: value for key, value in good.items() if key != name})
