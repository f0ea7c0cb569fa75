"""buildah: images built from scratch are pushed, built upon elsewhere, and combined into an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import random_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.client import Client
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("buildah")]
PLAIN = "--tls-verify=false"


@pytest.fixture
def buildah(new_client: Callable[[str], Client]) -> Callable[..., str]:
    return store(new_client("buildah"))


@pytest.fixture
def elsewhere(new_client: Callable[[str], Client]) -> Callable[..., str]:
    """Buildah on another machine: an empty image store."""
    return store(new_client("buildah"))


def store(client: Client) -> Callable[..., str]:
    """Return `run` of a buildah whose whole image store lies in the client's home."""

    def run(*arguments: str | Path) -> str:
        places = [f"--root={client.home}/root", f"--runroot={client.home}/run", "--storage-driver=vfs"]
        return client.run(*places, *arguments)

    return run


def build(buildah: Callable[..., str], image: str, file: Path, *settings: str) -> str:
    """Commit an image of one file from scratch and return its id."""
    container = buildah("from", "scratch")
    buildah("copy", container, file, f"/{file.name}")
    buildah("config", "--label", "built=here", *settings, container)
    return buildah("commit", container, image)


def test_an_image_built_from_scratch_is_the_same_elsewhere(
    buildah: Callable[..., str], elsewhere: Callable[..., str], wire: Wire, tmp_path: Path
) -> None:
    file = tmp_path / "payload"
    file.write_bytes(random_bytes(1_000_000))
    image = build(buildah, "built", file)
    reference = f"docker://{wire.address}/buildah/app:1"
    buildah("push", PLAIN, f"--digestfile={tmp_path}/digest", "built", reference)
    manifest = wire.manifest("buildah/app", "1")
    assert (tmp_path / "digest").read_text().strip() == manifest.headers["docker-content-digest"]
    assert manifest.json()["config"]["digest"] == f"sha256:{image}"
    assert len(wire.content("buildah/app", "1")) == 3

    container = elsewhere("from", PLAIN, reference)
    mounted = Path(elsewhere("mount", container))
    try:
        assert (mounted / "payload").read_bytes() == file.read_bytes()
    finally:
        elsewhere("umount", container)


@pytest.mark.local_storage("the kind of store makes no difference")
def test_a_build_on_top_of_a_pushed_image(
    buildah: Callable[..., str], elsewhere: Callable[..., str], wire: Wire, tmp_path: Path
) -> None:
    file = tmp_path / "base"
    file.write_bytes(random_bytes(200_000, "base"))
    build(buildah, "base", file)
    buildah("push", PLAIN, "base", f"docker://{wire.address}/buildah/base:1")
    (tmp_path / "more").write_bytes(b"more")
    (tmp_path / "Dockerfile").write_text(f"FROM {wire.address}/buildah/base:1\nCOPY more /more\n", encoding="utf-8")
    elsewhere("build", PLAIN, "--tag=derived", tmp_path)
    elsewhere("push", PLAIN, "derived", f"docker://{wire.address}/buildah/derived:1")
    base = wire.manifest("buildah/base", "1").json()["layers"]
    derived = wire.manifest("buildah/derived", "1").json()["layers"]
    assert len(derived) == len(base) + 1
    assert len(wire.content("buildah/derived", "1")) == 1 + 1 + len(derived)


def test_an_index_of_two_platforms(
    buildah: Callable[..., str], elsewhere: Callable[..., str], wire: Wire, tmp_path: Path
) -> None:
    buildah("manifest", "create", "both")
    for architecture in ("amd64", "arm64"):
        (tmp_path / architecture).write_text(architecture, encoding="utf-8")
        build(buildah, f"img-{architecture}", tmp_path / architecture, "--arch", architecture)
        buildah("manifest", "add", "--arch", architecture, "both", f"containers-storage:localhost/img-{architecture}")
    reference = f"docker://{wire.address}/buildah/multi:1"
    buildah("manifest", "push", "--all", PLAIN, "both", reference)
    assert len(wire.content("buildah/multi", "1")) == 1 + 3 * 2

    container = elsewhere("from", PLAIN, "--arch=arm64", reference)
    mounted = Path(elsewhere("mount", container))
    try:
        assert (mounted / "arm64").read_text() == "arm64"
    finally:
        elsewhere("umount", container)
