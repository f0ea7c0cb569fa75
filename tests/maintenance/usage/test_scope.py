"""What the usage of is asked for, in the words of the command."""

from __future__ import annotations

import pytest

from registry.maintenance.usage.range_usage import ALL, below
from registry.maintenance.usage.scope import Scope
from registry.oci.change_reference import ChangeReference
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid, NameInvalid, RegistryError, RequestInvalid, TagInvalid

DIGEST = Digest.of(b"")


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("**", Scope(ALL)),
        ("team/**", Scope(below("team"))),
        ("team/sub/**", Scope(below("team/sub"))),
        ("team/app", Scope(None, ChangeReference("team/app"))),
        ("team/app:v1", Scope(None, ChangeReference("team/app", "v1"))),
        (f"team/app@{DIGEST}", Scope(None, ChangeReference("team/app", digest=DIGEST))),
    ],
)
def test_a_scope_is_read(text: str, scope: Scope) -> None:
    assert Scope.parse(text) == scope


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("team/*", NameInvalid),
        ("/**", NameInvalid),
        ("Team", NameInvalid),
        ("team/app:v1@3", RequestInvalid),
        ("team/app:-", TagInvalid),
        ("team/app@sha256:0", DigestInvalid),
    ],
)
def test_a_mistake_is_named(text: str, error: type[RegistryError]) -> None:
    with pytest.raises(error):
        Scope.parse(text)
