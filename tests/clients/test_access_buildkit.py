"""BuildKit, as in buildx, with rules: bases are pulled and mounted, refusals end a build (checks 1, 6, 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.buildkit import Builder, buildkit
from tests.clients.guarded import seen
from tests.clients.layouts import layout_content
from tests.clients.machines import Crane, refused, succeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.guarded import Requests
    from tests.support.servers import Registry

pytestmark = [
    pytest.mark.clients,
    pytest.mark.tools("buildctl", "buildkitd", "runc", "crane"),
    pytest.mark.replicas_too("the kind of store makes no difference, a second server may"),
]


@pytest.fixture(scope="module")
def builder(guarded: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    with buildkit(tmp_path_factory.mktemp("b") / "1", guarded.address) as running:
        yield running


@pytest.fixture
def push(guarded: Registry, new_machine: Callable[[type[Crane]], Crane], source: Path) -> Callable[[str], str]:
    """Push the image of a layout as alice; returns its reference."""

    def push(repository: str) -> str:
        reference = f"{guarded.address}/{repository}:1"
        succeeded(new_machine(Crane).logged_in("alice").push(source, reference))
        return reference

    return push


def test_a_build_pulls_its_base_and_mounts_it_where_it_pushes(
    builder: Builder, guarded: Registry, push: Callable[[str], str], requests: Requests, source: Path
) -> None:
    base, target = push("team/buildkit-base"), "team/buildkit-built"
    requests.forget()
    succeeded(builder.build("alice", base, f"{guarded.address}/{target}:1"))
    assert seen(guarded.address, target, "1", "bob").status == 200
    known = layout_content(source, "single").keys()
    assert len(requests.mounted(target) & known) == 2
    assert not requests.uploaded(target) & known
    assert len(requests.uploaded(target)) == 2, "the layer that was built, and the configuration"
    assert {each.status for each in requests.writes(target)} == {201, 202}


def test_a_public_base_is_built_upon_without_a_login_and_a_hidden_one_is_not(
    builder: Builder, guarded: Registry, push: Callable[[str], str]
) -> None:
    public, hidden = push("public/buildkit"), push("team/buildkit-hidden")
    refused(builder.build(None, hidden, f"{guarded.address}/team/buildkit-none:1"))
    refused(builder.build("carol", hidden, f"{guarded.address}/secret/buildkit-none:1"))
    succeeded(builder.build("carol", public, f"{guarded.address}/secret/buildkit:1"))
    assert seen(guarded.address, "secret/buildkit", "1", "carol").status == 200


def test_a_push_with_the_right_to_pull_alone_is_tried_once(
    builder: Builder, guarded: Registry, push: Callable[[str], str], requests: Requests
) -> None:
    base, target = push("team/buildkit-pulled"), "team/buildkit-refused"
    requests.forget()
    refused(builder.build("bob", base, f"{guarded.address}/{target}:1"), "denied|403")
    writes = requests.writes(target)
    assert {(each.method, each.status) for each in writes} == {("POST", 403)}
    assert len(writes) <= 4, "one for each blob"
