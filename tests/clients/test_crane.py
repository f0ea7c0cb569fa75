"""crane: pushes layouts as they are, edits images in the registry, copies, lists and deletes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import (
    DOCKER_FOREIGN,
    Layout,
    blob_path,
    content,
    index_descriptor,
    layout_content,
    random_bytes,
    tar,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("crane")]


@pytest.fixture
def crane(new_client: Callable[[str], Client]) -> Client:
    return new_client("crane")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A layout with one image for each of two platforms; crane pushes its `index.json` as the image index."""
    made = Layout(tmp_path / "platforms")
    for architecture in ("amd64", "arm64"):
        made.tag(architecture, made.image([tar({"shared": random_bytes(300_000)})], architecture=architecture))
    return made.directory


@pytest.fixture
def wanted(source: Path) -> dict[str, int]:
    """Everything that the index of `source` reaches, itself included."""
    own = index_descriptor(source)
    found = content(
        lambda child: (source / "index.json" if child == own else blob_path(source, child["digest"])).read_bytes(), own
    )
    assert len(found) == 1 + 2 + 2 + 1
    return found


def test_an_index_comes_back_byte_for_byte_in_a_clean_store(
    new_client: Callable[[str], Client], wire: Wire, source: Path, wanted: dict[str, int], tmp_path: Path
) -> None:
    new_client("crane").run("push", "--index", source, f"{wire.address}/crane/index:1")
    assert wire.content("crane/index", "1") == wanted

    new_client("crane").run("pull", "--format=oci", f"{wire.address}/crane/index:1", tmp_path / "pulled")
    assert layout_content(tmp_path / "pulled") == wanted


def test_an_image_of_forty_layers(crane: Client, wire: Wire, tmp_path: Path) -> None:
    made = Layout(tmp_path / "forty")
    made.tag("1", made.image([tar({f"file-{number}": random_bytes(10_000, number)}) for number in range(40)]))
    crane.run("push", made.directory, f"{wire.address}/crane/forty:1")
    crane.run("validate", "--remote", f"{wire.address}/crane/forty:1")
    crane.run("pull", "--format=oci", f"{wire.address}/crane/forty:1", tmp_path / "pulled")
    assert layout_content(tmp_path / "pulled") == layout_content(made.directory)
    assert len(layout_content(made.directory)) == 42


def test_tags_catalog_and_deletion(crane: Client, wire: Wire, source: Path) -> None:
    name = f"{wire.address}/crane/life"
    crane.run("push", "--index", source, f"{name}:1")
    crane.run("tag", f"{name}:1", "2")
    crane.run("tag", f"{name}:1", "zoo")
    assert crane.run("ls", name).split() == ["1", "2", "zoo"]
    assert "crane/life" in crane.run("catalog", wire.address).split()

    digest = crane.run("digest", f"{name}:2")
    assert digest == index_descriptor(source)["digest"]
    crane.run("delete", f"{name}@{digest}")
    crane.fails("manifest", f"{name}:1", saying="MANIFEST_UNKNOWN")
    crane.fails("manifest", f"{name}@{digest}", saying="MANIFEST_UNKNOWN")
    assert crane.run("ls", name) == ""


def test_a_copy_to_another_repository_is_the_same_content(
    crane: Client, wire: Wire, source: Path, wanted: dict[str, int]
) -> None:
    crane.run("push", "--index", source, f"{wire.address}/crane/original:1")
    crane.run("copy", f"{wire.address}/crane/original:1", f"{wire.address}/crane/copies/deep/er:1")
    assert wire.content("crane/copies/deep/er", "1") == wanted


@pytest.mark.local_storage("the kind of store makes no difference")
def test_all_tags_of_a_repository_are_copied(crane: Client, wire: Wire, source: Path) -> None:
    for tag in ("a", "b", "c"):
        crane.run("push", "--index", source, f"{wire.address}/crane/tagged:{tag}")
    crane.run("copy", "--all-tags", f"{wire.address}/crane/tagged", f"{wire.address}/crane/tagged-copy")
    assert wire.tags("crane/tagged-copy") == ["a", "b", "c"]


@pytest.mark.local_storage("the kind of store makes no difference")
def test_images_edited_in_the_registry(crane: Client, wire: Wire, tmp_path: Path) -> None:
    name = f"{wire.address}/crane/edited"
    archive = tmp_path / "more.tar"
    archive.write_bytes(tar({"more": b"appended"}))
    for architecture in ("amd64", "arm64"):
        crane.run("append", "-f", archive, "-t", f"{name}:{architecture}")
        crane.run("mutate", f"{name}:{architecture}", "--set-platform", f"linux/{architecture}", "-l", "by=crane")
        crane.run("validate", "--remote", f"{name}:{architecture}")
    assert json.loads(crane.run("config", f"{name}:arm64"))["config"]["Labels"] == {"by": "crane"}

    crane.run("index", "append", "-m", f"{name}:amd64", "-m", f"{name}:arm64", "-t", f"{name}:both")
    crane.run("validate", "--remote", f"{name}:both")
    listed = json.loads(wire.manifest("crane/edited", "both").body)["manifests"]
    assert [entry["platform"]["architecture"] for entry in listed] == ["amd64", "arm64"]
    assert b"appended" in crane.output("export", f"{name}:amd64", "-")

    crane.run(
        "rebase", f"{name}:amd64", "--old_base", f"{name}:amd64", "--new_base", f"{name}:arm64", "-t", f"{name}:re"
    )
    crane.run("flatten", f"{name}:arm64", "-t", f"{name}:flat")
    for tag in ("re", "flat"):
        crane.run("validate", "--remote", f"{name}:{tag}")


@pytest.mark.local_storage("the kind of store makes no difference")
def test_foreign_layers_stay_where_they_are(crane: Client, wire: Wire, tmp_path: Path) -> None:
    made = Layout(tmp_path / "foreign")
    foreign = {
        "mediaType": DOCKER_FOREIGN,
        "digest": "sha256:" + "ab" * 32,
        "size": 1_000_000,
        "urls": ["https://example.invalid/layer.tar.gz"],
    }
    made.tag("1", made.image([tar({"own": b"layer"})], extra_layers=[foreign]))
    crane.run("push", made.directory, f"{wire.address}/crane/foreign:1")
    assert wire.content("crane/foreign", "1") == layout_content(made.directory)
    assert foreign in json.loads(wire.manifest("crane/foreign", "1").body)["layers"]

    crane.run("copy", f"{wire.address}/crane/foreign:1", f"{wire.address}/crane/foreign-copy:1")
    assert wire.content("crane/foreign-copy", "1") == layout_content(made.directory)
