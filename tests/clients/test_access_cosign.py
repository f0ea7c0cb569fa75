"""cosign at a registry with rules: the right to push signs, the right to pull verifies (check 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.guarded import PASSWORDS
from tests.clients.layouts import tagged
from tests.clients.machines import Crane, refused, succeeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.support.servers import Registry

pytestmark = [
    pytest.mark.clients,
    pytest.mark.tools("cosign", "crane"),
    pytest.mark.replicas_too("the kind of store makes no difference, a second server may"),
]
PLAIN = "--allow-http-registry"


@pytest.fixture
def cosign(new_client: Callable[[str], Client], guarded: Registry) -> Callable[[str | None], Client]:
    """Make a cosign, logged in or not, that asks no public service for anything."""

    def make(user: str | None) -> Client:
        client = new_client("cosign")
        client.environment |= {
            "COSIGN_PASSWORD": "",
            "TUF_MIRROR": "http://127.0.0.1:1",
            "TUF_ROOT": str(client.home / "tuf"),
        }
        if user is not None:
            client.run("login", guarded.address, f"--username={user}", f"--password={PASSWORDS[user]}")
        return client

    return make


def test_signatures_are_written_and_read_by_those_that_may(
    cosign: Callable[[str | None], Client],
    guarded: Registry,
    new_machine: Callable[[type[Crane]], Crane],
    source: Path,
) -> None:
    alice, bob, stranger = cosign("alice"), cosign("bob"), cosign(None)
    alice.run("generate-key-pair")
    crane = new_machine(Crane).logged_in("alice")
    signing = ("sign", "--yes", f"--key={alice.home}/cosign.key", "--tlog-upload=false", PLAIN)
    verifying = ("verify", f"--key={alice.home}/cosign.pub", "--insecure-ignore-tlog=true", PLAIN)
    images = {}
    for place in ("team", "public"):
        succeeded(crane.push(source, f"{guarded.address}/{place}/cosign:1"))
        images[place] = f"{guarded.address}/{place}/cosign@{tagged(source, 'single')['digest']}"
        for other in (bob, stranger):
            refused(other.execute(*signing, images[place]))
        alice.run(*signing, images[place])
    stranger.run(*verifying, images["public"])
    bob.run(*verifying, images["team"])
    refused(stranger.execute(*verifying, images["team"]))
