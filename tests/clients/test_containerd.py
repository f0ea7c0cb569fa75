"""containerd: one daemon imports and pushes, another with an empty content store pulls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.containerd import containerd
from tests.clients.layouts import content, layout_content, tagged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.conftest import PushLayout
    from tests.clients.layouts import Descriptor, Layout
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("containerd", "ctr", "skopeo")]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """`ctr` on another machine."""
    with containerd(tmp_path_factory.mktemp("c") / "1") as running:
        yield running


def stored(ctr: Client, root: Descriptor) -> dict[str, int]:
    """Return digest and size of everything a manifest reaches in the daemon's content store, each verified."""
    return content(lambda child: ctr.output("content", "get", child["digest"]), root)


def test_an_image_that_another_client_pushed_is_pulled(
    elsewhere: Client, push_layout: PushLayout, wire: Wire, layout: Layout
) -> None:
    name = f"{wire.address}/containerd/pulled:1"
    push_layout(layout.directory, "multi", name)
    elsewhere.run("images", "pull", "--plain-http", "--snapshotter=native", "--all-platforms", name)
    assert stored(elsewhere, tagged(layout.directory, "multi")) == layout_content(layout.directory, "multi")


def test_an_image_is_pushed_and_pulled_elsewhere(
    ctr: Client, elsewhere: Client, new_client: Callable[[str], Client], wire: Wire, layout: Layout, tmp_path: Path
) -> None:
    name = f"{wire.address}/containerd/pushed:1"
    archive = tmp_path / "image.tar"
    new_client("skopeo").run("copy", "--all", f"oci:{layout.directory}:multi", f"oci-archive:{archive}:{name}")
    ctr.run("images", "import", "--snapshotter=native", "--all-platforms", "--no-unpack", archive)
    ctr.run("images", "push", "--plain-http", name)
    assert wire.content("containerd/pushed", "1") == layout_content(layout.directory, "multi")
    elsewhere.run("images", "pull", "--plain-http", "--snapshotter=native", "--all-platforms", name)
    assert stored(elsewhere, tagged(layout.directory, "multi")) == layout_content(layout.directory, "multi")


def test_a_second_repository_is_pushed_from_the_first(
    ctr: Client, push_layout: PushLayout, wire: Wire, layout: Layout
) -> None:
    """A daemon remembers where content came from and asks for mounts between repositories."""
    first, second = (f"{wire.address}/containerd/{name}:1" for name in ("first", "second"))
    push_layout(layout.directory, "multi", first)
    ctr.run("images", "pull", "--plain-http", "--snapshotter=native", "--all-platforms", first)
    ctr.run("images", "tag", first, second)
    ctr.run("images", "push", "--plain-http", second)
    assert wire.content("containerd/second", "1") == layout_content(layout.directory, "multi")
