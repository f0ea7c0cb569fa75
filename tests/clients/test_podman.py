"""podman: its own image store pushes, and an empty one pulls."""

from __future__ import annotations

import json
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import layout_content, random_bytes, tagged, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.conftest import PushLayout
    from tests.clients.layouts import Layout
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("podman")]
PLAIN = "--tls-verify=false"


@pytest.fixture
def podman(new_client: Callable[[str], Client]) -> Iterator[Callable[..., str]]:
    with store(new_client("podman")) as run:
        yield run


@pytest.fixture
def elsewhere(new_client: Callable[[str], Client]) -> Iterator[Callable[..., str]]:
    """Podman on another machine: an empty image store."""
    with store(new_client("podman")) as run:
        yield run


@contextmanager
def store(client: Client) -> Iterator[Callable[..., str]]:
    """Give `run` of a podman whose whole image store lies in the client's home."""
    # podman refuses a run root of more than 50 characters, which the directories of pytest exceed.
    with TemporaryDirectory(prefix="podman") as runroot:

        def run(*arguments: str | Path, stdin: bytes = b"") -> str:
            places = [f"--root={client.home}/root", f"--runroot={runroot}", f"--tmpdir={client.home / 'tmp'}"]
            return client.run(*places, "--storage-driver=vfs", "--events-backend=none", *arguments, stdin=stdin)

        yield run


def test_push_then_pull_into_an_empty_store(
    podman: Callable[..., str], elsewhere: Callable[..., str], wire: Wire, tmp_path: Path
) -> None:
    name = f"{wire.address}/podman/app:1"
    archive = tar({"data": random_bytes(1_000_000)})
    image = podman("import", "-", name, stdin=archive).removeprefix("sha256:")
    podman("push", PLAIN, f"--digestfile={tmp_path}/digest", name)
    manifest = wire.manifest("podman/app", "1")
    assert (tmp_path / "digest").read_text().strip() == manifest.headers["docker-content-digest"]
    assert manifest.json()["config"]["digest"] == f"sha256:{image}"
    assert len(wire.content("podman/app", "1")) == 3

    elsewhere("pull", PLAIN, name)
    (seen,) = json.loads(elsewhere("inspect", name))
    assert seen["Id"] == image
    assert seen["Digest"] == manifest.headers["docker-content-digest"]
    elsewhere("save", "--format=oci-dir", "--output", tmp_path / "saved", name)
    assert json.loads(wire_config(wire, "podman/app", "1"))["rootfs"]["diff_ids"] == [layer_of(tmp_path / "saved")]


def wire_config(wire: Wire, repository: str, reference: str) -> bytes:
    """Return the bytes of an image's configuration."""
    digest = wire.manifest(repository, reference).json()["config"]["digest"]
    return wire.request("GET", f"/v2/{repository}/blobs/{digest}").body


def layer_of(directory: Path) -> str:
    """Return the diff id of the only layer of an image saved as a layout, which podman checked against the bytes."""
    reached = layout_content(directory)
    manifest = json.loads(
        (directory / "blobs/sha256" / tagged(directory)["digest"].removeprefix("sha256:")).read_bytes()
    )
    assert manifest["layers"][0]["digest"] in reached
    config = json.loads(
        (directory / "blobs/sha256" / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes()
    )
    (layer,) = config["rootfs"]["diff_ids"]
    return str(layer)


def test_a_manifest_list_of_two_platforms(
    podman: Callable[..., str], elsewhere: Callable[..., str], wire: Wire
) -> None:
    podman("manifest", "create", "both")
    for architecture in ("amd64", "arm64"):
        image = f"localhost/{architecture}:1"
        podman("import", f"--arch={architecture}", "-", image, stdin=tar({"name": architecture.encode()}))
        podman("manifest", "add", f"--arch={architecture}", "both", f"containers-storage:{image}")
    podman("manifest", "push", "--all", PLAIN, "both", f"docker://{wire.address}/podman/multi:1")
    assert len(wire.content("podman/multi", "1")) == 1 + 3 * 2

    elsewhere("pull", PLAIN, "--arch=arm64", f"{wire.address}/podman/multi:1")
    (seen,) = json.loads(elsewhere("inspect", f"{wire.address}/podman/multi:1"))
    assert seen["Architecture"] == "arm64"


@pytest.mark.local_storage("the kind of store makes no difference")
@pytest.mark.parametrize(
    ("form", "compression", "suffix"),
    [("oci", "zstd", ".tar+zstd"), ("oci", "gzip", ".tar+gzip"), ("v2s2", "gzip", ".diff.tar.gzip")],
)
def test_formats_and_compressions(
    podman: Callable[..., str], elsewhere: Callable[..., str], wire: Wire, form: str, compression: str, suffix: str
) -> None:
    name = f"{wire.address}/podman/formats:{form}-{compression}"
    # Each case has content of its own: run by root, podman remembers compressed forms of a layer for the whole machine.
    podman("import", "-", name, stdin=tar({"data": f"{form} {compression}".encode() * 50_000}))
    podman("push", PLAIN, f"--format={form}", f"--compression-format={compression}", name)
    (layer,) = wire.manifest("podman/formats", f"{form}-{compression}").json()["layers"]
    assert layer["mediaType"].endswith(suffix)
    elsewhere("pull", PLAIN, name)


def test_an_image_that_another_client_pushed_is_pulled(
    push_layout: PushLayout, elsewhere: Callable[..., str], wire: Wire, layout: Layout
) -> None:
    push_layout(layout.directory, "single", f"{wire.address}/podman/other:1")
    name = f"{wire.address}/podman/other@{tagged(layout.directory, 'single')['digest']}"
    elsewhere("pull", PLAIN, name)
    (seen,) = json.loads(elsewhere("inspect", name))
    assert seen["Digest"] == tagged(layout.directory, "single")["digest"]


@pytest.mark.local_storage("the kind of store makes no difference")
def test_search_lists_the_tags_of_a_repository(podman: Callable[..., str], wire: Wire) -> None:
    name = f"{wire.address}/podman/searched"
    for tag in ("a", "b"):
        podman("import", "-", f"{name}:{tag}", stdin=tar({"tag": tag.encode()}))
        podman("push", PLAIN, f"{name}:{tag}")
    (found,) = json.loads(podman("search", PLAIN, "--list-tags", "--format=json", name))
    assert found["Tags"] == ["a", "b"]
