"""Pushes from one repository to another: layers are mounted where the caller may pull, sent where not (check 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.clients.guarded import PASSWORDS, basic
from tests.clients.layouts import MANIFESTS, Layout, random_bytes, tar
from tests.clients.machines import Crane, Oras, Regctl, Skopeo, kinds, succeeded
from tests.clients.stores import Ctr, Docker
from tests.clients.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.guarded import Requests
    from tests.clients.machines import Copier, Keeper, Machine
    from tests.support.servers import Registry

    Make = Callable[[type[Machine]], Machine]

pytestmark = [
    pytest.mark.clients,
    pytest.mark.tools("crane"),
    pytest.mark.replicas_too("the kind of store makes no difference, a second server may"),
]


class Sent(NamedTuple):
    """How the layers of an image came to a repository."""

    layers: set[str]
    mounted: set[str]
    uploaded: set[str]
    refusals: set[int]
    """Statuses of what was refused, reads and requests for tokens left out."""


def sent(address: str, repository: str, requests: Requests) -> Sent:
    accept = {"Accept": ", ".join(MANIFESTS)}
    answer = Wire(address).request("GET", f"/v2/{repository}/manifests/1", headers={**basic("alice"), **accept})
    assert answer.status == 200, answer
    layers = {layer["digest"] for layer in answer.json()["layers"]}
    return Sent(
        layers,
        layers & requests.mounted(repository),
        layers & requests.uploaded(repository),
        {each.status for each in requests.writes(repository) if each.status >= 400},
    )


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A layout with one image, `single`, that no client has met in another test."""
    made = Layout(tmp_path / "source")
    made.tag("single", made.image([tar({name: random_bytes(5000, (name, request.node.name))}) for name in "ab"]))
    return made.directory


@pytest.fixture
def pushed(guarded: Registry, new_machine: Make, source: Path) -> Callable[[str, str], str]:
    """Push the image of a layout as a user; returns its reference."""

    def push(user: str, repository: str) -> str:
        crane = new_machine(Crane).logged_in(user)
        assert isinstance(crane, Crane)
        succeeded(crane.push(source, f"{guarded.address}/{repository}:1"))
        return f"{guarded.address}/{repository}:1"

    return push


@pytest.mark.parametrize("kind", kinds(Crane, Skopeo, Oras, Regctl, Docker, Ctr))
def test_layers_are_mounted_from_where_their_caller_may_pull(
    kind: type[Copier],
    new_machine: Callable[[type[Copier]], Copier],
    guarded: Registry,
    pushed: Callable[[str, str], str],
    requests: Requests,
) -> None:
    alice = new_machine(kind).logged_in("alice")
    reference, target = pushed("alice", f"team/{kind.tools[0]}-source"), f"team/{kind.tools[0]}-mounted"
    succeeded(alice.copy(reference, f"{guarded.address}/{target}:1"))
    found = sent(guarded.address, target, requests)
    assert len(found.layers) == 2
    assert found == Sent(found.layers, mounted=found.layers, uploaded=set(), refusals=set())


@pytest.mark.parametrize("kind", kinds(Skopeo, Docker, Ctr))
def test_layers_are_sent_where_their_caller_may_not_pull_what_they_came_from(
    kind: type[Keeper],
    new_machine: Callable[[type[Keeper]], Keeper],
    guarded: Registry,
    pushed: Callable[[str, str], str],
    requests: Requests,
) -> None:
    """The machine remembers them from a repository that its new user may not read."""
    machine = new_machine(kind).logged_in("carol")
    reference, target = pushed("carol", f"secret/{kind.tools[0]}"), f"team/{kind.tools[0]}-sent"
    succeeded(machine.fetch(reference))
    succeeded(machine.login("alice", PASSWORDS["alice"]))
    succeeded(machine.send(reference, f"{guarded.address}/{target}:1"))
    found = sent(guarded.address, target, requests)
    assert len(found.layers) == 2
    assert found == Sent(found.layers, mounted=set(), uploaded=found.layers, refusals=set())
