"""oras: artifacts with referrers, their copies between repositories, layouts and the disk, and single blobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import (
    CONFIG,
    MANIFEST,
    Layout,
    digest_of,
    has_tag,
    layout_content,
    random_bytes,
    tagged,
)
from tests.clients.wire import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("oras")]
PLAIN = "--plain-http"
THING = "application/vnd.stowage.thing"
NOTE = "application/vnd.stowage.note"
BOTH_PLAIN = ("--from-plain-http", "--to-plain-http")


@pytest.fixture
def oras(new_client: Callable[[str], Client]) -> Client:
    client = new_client("oras")
    (client.home / "data.bin").write_bytes(random_bytes(400_000))
    (client.home / "note.txt").write_text("a note\n", encoding="utf-8")
    (client.home / "settings.json").write_text('{"a": 1}', encoding="utf-8")
    return client


def push(oras: Client, reference: str) -> str:
    """Push an artifact of two files with a configuration and return its digest."""
    settings = "settings.json:application/vnd.stowage.settings+json"
    files = ("data.bin:application/octet-stream", "note.txt:text/plain")
    kind = f"--artifact-type={THING}"
    return str(oras.json("push", PLAIN, "--format=json", kind, f"--config={settings}", reference, *files)["digest"])


def attach(oras: Client, reference: str, kind: str = NOTE) -> str:
    """Attach the note to an artifact and return the digest of what was attached."""
    return str(
        oras.json("attach", PLAIN, "--format=json", f"--artifact-type={kind}", reference, "note.txt:text/plain")[
            "digest"
        ]
    )


def test_the_files_of_an_artifact_come_back(oras: Client, new_client: Callable[[str], Client], wire: Wire) -> None:
    reference = f"{wire.address}/oras/files:1"
    digest = push(oras, f"{reference},two")
    assert oras.run("resolve", PLAIN, reference) == digest
    assert wire.manifest("oras/files", "1").json()["artifactType"] == THING
    assert wire.tags("oras/files") == ["1", "two"]

    clean = new_client("oras")
    clean.run("pull", PLAIN, "--output", clean.home / "out", reference)
    for name in ("data.bin", "note.txt"):
        assert (clean.home / "out" / name).read_bytes() == (oras.home / name).read_bytes()


def test_attached_artifacts_are_discovered_and_filtered(oras: Client, wire: Wire) -> None:
    reference = f"{wire.address}/oras/attached:1"
    subject = push(oras, reference)
    note = attach(oras, reference)
    other = attach(oras, reference, "application/vnd.stowage.other")
    on_the_note = attach(oras, f"{wire.address}/oras/attached@{note}")

    tree = oras.json("discover", PLAIN, "--format=json", reference)
    assert {entry["digest"] for entry in tree["referrers"]} == {note, other}
    below = next(entry for entry in tree["referrers"] if entry["digest"] == note)
    assert [entry["digest"] for entry in below["referrers"]] == [on_the_note]
    found = oras.json("discover", PLAIN, "--format=json", f"--artifact-type={NOTE}", "--depth=1", reference)
    assert [entry["digest"] for entry in found["referrers"]] == [note]

    # The referrers API was used: no fallback tag was written.
    assert wire.tags("oras/attached") == ["1"]
    listed = {entry["digest"]: entry["artifactType"] for entry in wire.referrers("oras/attached", subject)}
    assert listed == {note: NOTE, other: "application/vnd.stowage.other"}


def test_a_recursive_copy_takes_the_referrers_along(oras: Client, wire: Wire, tmp_path: Path) -> None:
    source, target = (f"{wire.address}/oras/{name}:1" for name in ("source", "target"))
    subject = push(oras, source)
    note = attach(oras, source)
    on_the_note = attach(oras, f"{wire.address}/oras/source@{note}")
    oras.run("cp", "--recursive", *BOTH_PLAIN, source, target)
    assert [entry["digest"] for entry in wire.referrers("oras/target", subject)] == [note]
    assert [entry["digest"] for entry in wire.referrers("oras/target", note)] == [on_the_note]
    for reference in (subject, note, on_the_note):
        assert wire.content("oras/target", reference) == wire.content("oras/source", reference)

    oras.run("cp", "--recursive", "--from-plain-http", "--to-oci-layout", target, f"{tmp_path}/layout:1")
    oras.run("cp", "--recursive", "--from-oci-layout", "--to-plain-http", f"{tmp_path}/layout:1", f"{target}-back")
    assert wire.content("oras/target", "1-back") == layout_content(tmp_path / "layout", "1")


@pytest.mark.local_storage("another program uses the directory of a repository")
def test_the_directory_of_a_repository_is_a_layout_that_oras_copies(
    oras: Client, wire: Wire, storage_root: Path, tmp_path: Path
) -> None:
    reference = f"{wire.address}/oras/disk:1"
    subject = push(oras, reference)
    note = attach(oras, reference)
    repository = storage_root / "oras/disk"
    until(lambda: has_tag(repository, "1"), "the tag stands in index.json")
    until(lambda: note in (repository / "index.json").read_text(), "the referrer stands in index.json")

    source = f"{repository}:1"
    oras.run("cp", "--recursive", "--from-oci-layout", "--to-oci-layout", source, f"{tmp_path}/copied:1")
    assert tagged(tmp_path / "copied", "1")["digest"] == subject
    assert layout_content(tmp_path / "copied", "1") == wire.content("oras/disk", "1")
    found = oras.json("discover", "--oci-layout", "--format=json", source)
    assert [entry["digest"] for entry in found["referrers"]] == [note]
    oras.run("cp", "--recursive", "--from-oci-layout", "--to-plain-http", source, f"{wire.address}/oras/undisk:1")
    assert [entry["digest"] for entry in wire.referrers("oras/undisk", subject)] == [note]


def test_single_blobs_are_pushed_fetched_and_deleted(oras: Client, wire: Wire) -> None:
    name = f"{wire.address}/oras/single"
    described = oras.json("blob", "push", PLAIN, "--descriptor", name, "data.bin")
    data = (oras.home / "data.bin").read_bytes()
    assert described["digest"] == digest_of(data)
    reference = f"{name}@{described['digest']}"
    assert oras.json("blob", "fetch", PLAIN, "--descriptor", reference)["size"] == len(data)
    oras.run("blob", "fetch", PLAIN, "--output", oras.home / "fetched", reference)
    assert (oras.home / "fetched").read_bytes() == data

    oras.run("blob", "delete", PLAIN, "--force", reference)
    oras.fails("blob", "fetch", PLAIN, "--descriptor", reference, saying="not found")


def test_manifests_are_fetched_tagged_listed_and_deleted(oras: Client, wire: Wire) -> None:
    name = f"{wire.address}/oras/life"
    digest = push(oras, f"{name}:1")
    assert oras.output("manifest", "fetch", PLAIN, f"{name}:1") == wire.manifest("oras/life", digest).body
    oras.run("tag", PLAIN, f"{name}:1", "2", "3")
    assert oras.run("repo", "tags", PLAIN, name).split() == ["1", "2", "3"]
    assert oras.run("repo", "tags", PLAIN, "--last", "1", name).split() == ["2", "3"]
    assert "oras/life" in oras.run("repo", "ls", PLAIN, wire.address).split()

    (oras.home / "manifest.json").write_bytes(wire.manifest("oras/life", "1").body + b"\n")
    oras.run("manifest", "push", PLAIN, f"{name}:4", "manifest.json")
    oras.run("manifest", "delete", PLAIN, "--force", f"{name}@{digest}")
    assert oras.run("repo", "tags", PLAIN, name).split() == ["4"]
    oras.fails("resolve", PLAIN, f"{name}:1", saying="not found")
    oras.run("manifest", "delete", PLAIN, "--force", f"{name}:4")
    assert wire.tags("oras/life") == []


@pytest.mark.local_storage("the kind of store makes no difference")
def test_an_index_is_made_from_pushed_manifests(oras: Client, wire: Wire) -> None:
    name = f"{wire.address}/oras/index"
    digests = []
    for tag in ("a", "b"):
        (oras.home / "note.txt").write_text(f"note {tag}", encoding="utf-8")
        digests.append(push(oras, f"{name}:{tag}"))
    oras.run("manifest", "index", "create", PLAIN, f"{name}:both", "a", "b")
    assert [entry["digest"] for entry in wire.manifest("oras/index", "both").json()["manifests"]] == digests
    oras.run("cp", *BOTH_PLAIN, f"{name}:both", f"{wire.address}/oras/index-copy:both")
    assert wire.content("oras/index-copy", "both") == wire.content("oras/index", "both")


@pytest.mark.local_storage("the kind of store makes no difference")
def test_a_repository_is_backed_up_with_its_referrers_and_restored(oras: Client, wire: Wire, tmp_path: Path) -> None:
    name = f"{wire.address}/oras/saved"
    subject = push(oras, f"{name}:1")
    note = attach(oras, f"{name}:1")
    oras.run("backup", PLAIN, "--include-referrers", "--output", tmp_path / "backup", name)
    restored = f"{wire.address}/oras/restored"
    oras.run("restore", PLAIN, "--input", tmp_path / "backup", restored)
    assert wire.content("oras/restored", "1") == wire.content("oras/saved", "1")
    assert [entry["digest"] for entry in wire.referrers("oras/restored", subject)] == [note]


def test_an_image_known_by_sha512_keeps_its_digests(oras: Client, wire: Wire, tmp_path: Path) -> None:
    config = wire.push_blob("oras/sha512", b"{}", CONFIG, "sha512")
    layer = wire.push_blob("oras/sha512", random_bytes(100_000), "application/octet-stream", "sha512")
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}).encode()
    digest = digest_of(manifest, "sha512")
    wire.push_manifest("oras/sha512", f"{digest}?tag=1", manifest, MANIFEST)
    name = f"{wire.address}/oras/sha512"
    assert oras.run("resolve", PLAIN, f"{name}:1") == digest
    assert oras.output("manifest", "fetch", PLAIN, f"{name}@{digest}") == manifest

    target = f"{wire.address}/oras/sha512-copy"
    oras.run("cp", *BOTH_PLAIN, f"{name}@{digest}", f"{target}@{digest}")
    assert wire.content("oras/sha512-copy", digest) == wire.content("oras/sha512", "1")
    oras.run("cp", "--from-plain-http", "--to-oci-layout", f"{name}:1", f"{tmp_path}/layout:1")
    assert layout_content(tmp_path / "layout", "1") == wire.content("oras/sha512", digest)


def test_an_image_of_a_layout_is_pushed(oras: Client, wire: Wire, layout: Layout) -> None:
    oras.run("cp", "--from-oci-layout", "--to-plain-http", f"{layout.directory}:multi", f"{wire.address}/oras/image:1")
    assert wire.content("oras/image", "1") == layout_content(layout.directory, "multi")
