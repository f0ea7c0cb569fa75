"""Which of the scopes that are asked for a token gets."""

from __future__ import annotations

import pytest

from registry.auth.tokens.grant import grant
from registry.auth.tokens.scopes import parse_scopes

RIGHTS = {"app": {"pull", "push"}, "public/a": {"pull"}, "old": {"delete"}, "all": {"pull", "push", "delete"}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("", ""),
        ("repository:app:pull", "repository:app:pull"),
        ("repository:app:push,pull", "repository:app:push,pull"),
        ("repository:app:pull,push,delete", "repository:app:pull,push"),
        ("repository:public/a:push", ""),
        ("repository:public/a:pull,push repository:app:pull", "repository:public/a:pull repository:app:pull"),
        ("repository:app:*", "repository:app:pull,push"),
        ("repository:all:*", "repository:all:pull,push,delete"),
        ("repository:all:*,pull", "repository:all:pull,push,delete"),
        ("repository:old:delete", "repository:old:delete"),
        ("repository:nowhere:pull", ""),
        ("repository:app:fly,admin,pull", "repository:app:pull"),
        ("repository:host:5000/app:pull", ""),
        ("repository:APP:pull", ""),
        ("repository:app/../all:pull", ""),
        ("registry:catalog:*", "registry:catalog:*"),
        ("registry:catalog:pull", ""),
        ("registry:users:*", ""),
        ("planet:app:pull", ""),
        ("repository(plugin):app:pull", "repository:app:pull"),
    ],
)
def test_a_token_gets_what_its_caller_has_of_what_it_asks(asked: str, expected: str) -> None:
    granted = grant(parse_scopes([asked]), lambda action, repository: action in RIGHTS.get(repository, ()))
    assert " ".join(map(str, granted)) == expected
