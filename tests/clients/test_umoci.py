"""umoci: makes images without a daemon and unpacks them straight from a repository's directory on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import has_tag, layout_content, random_bytes
from tests.clients.wire import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.conftest import PushLayout
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("umoci", "skopeo")]


@pytest.fixture
def umoci(new_client: Callable[[str], Client]) -> Client:
    return new_client("umoci")


@pytest.fixture
def made(umoci: Client, tmp_path: Path) -> Path:
    """A layout with one image `1` of two layers, made by umoci."""
    layout, image = tmp_path / "made", f"{tmp_path}/made:1"
    for name, data in (("first", random_bytes(300_000)), ("second", b"small")):
        (tmp_path / name).write_bytes(data)
    umoci.run("init", "--layout", layout)
    umoci.run("new", "--image", image)
    umoci.run("insert", "--image", image, tmp_path / "first", "/data/first")
    umoci.run("insert", "--image", image, tmp_path / "second", "/data/second")
    umoci.run("config", "--image", image, "--config.label", "made=by umoci", "--author", "tests")
    return layout


@pytest.mark.local_storage("another program uses the directory of a repository")
def test_an_image_is_unpacked_from_the_directory_of_its_repository(
    umoci: Client,
    push_layout: PushLayout,
    wire: Wire,
    storage_root: Path,
    made: Path,
    tmp_path: Path,
) -> None:
    push_layout(made, "1", f"{wire.address}/umoci/app:1")
    assert wire.content("umoci/app", "1") == layout_content(made, "1")

    repository = storage_root / "umoci/app"
    until(lambda: has_tag(repository, "1"), "the tag stands in index.json")
    assert umoci.run("ls", "--layout", repository) == "1"
    history = umoci.json("stat", "--image", f"{repository}:1", "--json")["history"]
    assert [entry["layer"]["size"] for entry in history if entry.get("layer")] == [
        layer["size"] for layer in wire.manifest("umoci/app", "1").json()["layers"]
    ]
    umoci.run("unpack", "--image", f"{repository}:1", tmp_path / "bundle")
    for name in ("first", "second"):
        assert (tmp_path / "bundle/rootfs/data" / name).read_bytes() == (tmp_path / name).read_bytes()
    config = json.loads((tmp_path / "bundle/config.json").read_bytes())
    assert config["annotations"]["made"] == "by umoci"


@pytest.mark.local_storage("another program uses the directory of a repository")
def test_an_image_that_umoci_makes_in_a_live_repository_is_served(
    umoci: Client,
    push_layout: PushLayout,
    wire: Wire,
    storage_root: Path,
    made: Path,
    tmp_path: Path,
) -> None:
    push_layout(made, "1", f"{wire.address}/umoci/live:1")
    repository = storage_root / "umoci/live"
    until(lambda: has_tag(repository, "1"), "the tag stands in index.json")
    umoci.run("config", "--image", f"{repository}:1", "--tag", "2", "--config.label", "changed=on disk")
    until(lambda: wire.has("umoci/live", "2"), "what umoci wrote is served")
    assert wire.content("umoci/live", "2") == layout_content(repository, "2")
    assert wire.content("umoci/live", "1") == layout_content(made, "1")
    assert wire.tags("umoci/live") == ["1", "2"]
