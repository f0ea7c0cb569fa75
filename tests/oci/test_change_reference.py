"""References to what a repository was."""

from __future__ import annotations

import pytest

from registry.oci.change_reference import ChangeReference
from registry.oci.digest import Digest
from registry.oci.errors import RegistryError

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("team/app", ChangeReference("team/app")),
        ("team/app:v1", ChangeReference("team/app", "v1")),
        ("team/app:v1@41", ChangeReference("team/app", "v1", 41)),
        (f"team/app@{DIGEST}", ChangeReference("team/app", digest=Digest.parse(DIGEST))),
    ],
)
def test_each_form_is_read(text: str, meant: ChangeReference) -> None:
    assert ChangeReference.parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Team/app",
        "team/app:",
        "team/app:v1@",
        "team/app@41",
        "team/app:v1@x",
        f"team/app:v1@{DIGEST}",
        "team/app:v1@" + "9" * 20,
        "a:b:c",
        "team/app@",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(RegistryError):
        ChangeReference.parse(text)
