"""Secrets of API keys: their form, and what is told of a wrong one."""

from __future__ import annotations

import re

import pytest

from registry.auth.keys.key_secret import KeySecret, looks_like_key


def test_a_secret_is_letters_and_digits_and_like_no_other() -> None:
    secrets = {KeySecret.make() for _ in range(200)}
    assert len({secret.text[4:20] for secret in secrets}) == 200
    assert len({secret.key_id for secret in secrets}) == 200
    for secret in secrets:
        assert re.fullmatch(r"stw_[0-9A-Za-z]{49}", secret.text)
        assert KeySecret.parse(secret.text) == secret
        assert looks_like_key(secret.text)
        assert re.fullmatch(r"[0-9a-f]{16}", secret.key_id)


def test_each_typing_error_of_one_character_is_noticed() -> None:
    text = KeySecret.make().text
    for index in range(4, len(text)):
        other = "A" if text[index] != "A" else "B"
        with pytest.raises(ValueError, match="typing error") as caught:
            KeySecret.parse(text[:index] + other + text[index + 1 :])
        assert text[4:20] not in str(caught.value)


@pytest.mark.parametrize("text", ["", "stw_", "stw_" + "0" * 48, "ghp_" + "0" * 49, "stw_" + "é" * 49])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no API key"):
        KeySecret.parse(text)


def test_nothing_follows_a_secret() -> None:
    with pytest.raises(ValueError, match="no API key"):
        KeySecret.parse(KeySecret.make().text + "\n")
