"""containerd: one daemon imports and pushes, another with an empty content store pulls."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.clients.client import Client
from tests.clients.layouts import content, layout_content, tagged
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.conftest import PushLayout
    from tests.clients.layouts import Descriptor, Layout
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("containerd", "ctr", "skopeo")]
CONFIG = """\
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{place}/socket"
[ttrpc]
address = "{place}/ttrpc"
"""
STOP_TIMEOUT = 20.0  # seconds


def daemon(place: Path) -> Iterator[Client]:
    """Run a containerd with every file below `place` and yield a `ctr` that talks to it."""
    place.mkdir()
    (place / "config.toml").write_text(CONFIG.format(place=place), encoding="utf-8")
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [tool("containerd"), "--config", place / "config.toml"], stdout=log, stderr=log, process_group=0
        )
    ctr = Client(tool("ctr"), place / "home", {"CONTAINERD_ADDRESS": str(place / "socket")})
    try:
        deadline = time.monotonic() + 300
        while ctr.execute("version").returncode != 0:
            assert time.monotonic() < deadline, (place / "log").read_text()
            time.sleep(0.1)
        yield ctr
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    yield from daemon(tmp_path_factory.mktemp("c") / "1")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """`ctr` on another machine."""
    yield from daemon(tmp_path_factory.mktemp("c") / "2")


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
