"""Clients that push what a quota has no room for: they stop, and show what the registry says."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import pytest

from tests.clients.guarded import basic, seen
from tests.clients.layouts import Layout, digest_of, random_bytes, tar
from tests.clients.machines import Crane, Oras, Regctl, Skopeo, Transporter, kinds, refused
from tests.clients.stores import Buildah, Ctr, Docker, Podman
from tests.clients.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.guarded import Requests
    from tests.support.servers import Registry

pytestmark = [
    pytest.mark.clients,
    pytest.mark.local_storage("the database counts: tests/replicas/test_quotas.py has them over replicas"),
]

LARGE = 96 << 20
KINDS = kinds(Crane, Skopeo, Oras, Regctl, Podman, Buildah, Ctr)


@pytest.fixture
def address(guarded: Registry) -> str:
    return guarded.address


def fill(address: str, repository: str) -> None:
    """Push one byte, which is what its quota has."""
    answer = Wire(address).request(
        "POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(b'x')}", b"x", basic("alice")
    )
    assert answer.status in {http.client.CREATED, http.client.FORBIDDEN}, answer


@pytest.mark.parametrize("place", ["tiny", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_push_beyond_a_quota_fails_and_says_which_one(
    new_machine: Callable[[type[Transporter]], Transporter],
    kind: type[Transporter],
    address: str,
    source: Path,
    requests: Requests,
    place: str,
) -> None:
    if place == "full":
        fill(address, "team/any-full")
    alice = new_machine(kind).logged_in("alice")
    repository = f"team/{alice.tools[0]}-{place}"
    requests.forget()
    silent = {(Ctr, "tiny"), (Ctr, "full"), (Regctl, "tiny")}
    """They show the status alone, of a body in chunks or of any request."""
    said = r"\b403\b" if (kind, place) in silent else rf"quota of team/\*-{place} is (nearly )?full"
    refused(alice.push(source, f"{address}/{repository}:1"), said)
    assert seen(address, repository, "1", "alice").status == http.client.NOT_FOUND
    if place == "full":
        assert {each.status for each in requests.of(repository) if each.method == "POST"} == {http.client.FORBIDDEN}


@pytest.mark.parametrize("kind", kinds(Crane, Skopeo, Oras))
def test_a_layer_is_not_received_to_its_end(
    new_machine: Callable[[type[Transporter]], Transporter],
    kind: type[Transporter],
    address: str,
    tmp_path: Path,
    requests: Requests,
) -> None:
    """Podman and buildah send as skopeo does, with the same library."""
    layout = Layout(tmp_path / "large")
    layout.tag("single", layout.image([tar({"large": random_bytes(LARGE)})], compressed=False))
    alice = new_machine(kind).logged_in("alice")
    repository = f"team/{alice.tools[0]}-large-tiny"
    requests.forget()
    cut = "broken pipe|connection reset"  # what a client shows that sends on and has not read the answer
    refused(alice.push(layout.directory, f"{address}/{repository}:1"), rf"quota of team/\*-tiny is nearly full|{cut}")
    bodies = [each for each in requests.of(repository) if each.method in {"PATCH", "PUT"}]
    assert {each.status for each in bodies} == {http.client.FORBIDDEN}, bodies
    assert max(each.received for each in bodies) < LARGE, bodies


@pytest.mark.parametrize("kind", kinds(Docker))
@pytest.mark.parametrize("place", ["tiny", "full"])
def test_docker_shows_what_the_registry_says(
    new_machine: Callable[[type[Docker]], Docker], kind: type[Docker], address: str, place: str
) -> None:
    if place == "full":
        fill(address, "team/any-full")
    alice = new_machine(kind).logged_in("alice")
    reference = f"{alice.address}/team/docker-{place}:1"
    alice.client.run("import", "-", reference, stdin=b"\0" * 10240)
    alice.client.fails("push", reference, saying=f"quota of team/*-{place} is")
