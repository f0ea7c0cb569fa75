"""What storage has and the registry does not serve: it stops no other work, is said once, and a rebuild lists it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from registry.images import repositories
from registry.images.omissions import LISTED
from registry.images.registry import Registry
from registry.images.uploads.session_ids import noted
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.rescan import Rescan
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, Unavailable
from registry.oci.escaping import quoted
from registry.oci.index import Index
from registry.storage.errors import PathRefused, StorageError, StorageUnavailable
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.registry_world import NAME, World, pull, pull_blob, push_blob, push_image, read_index, tags

pytestmark = pytest.mark.parametrize("kind", ["local"])

SAID = "something on storage is not served"


@pytest.fixture(autouse=True)
def every_request_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "FOLD_SECONDS", "MISSING_SECONDS"):
        monkeypatch.setattr(repositories, name, 0.0)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Takes paths that the system does not let the registry read, as it does not where the registry is not root."""
    from registry.storage.local import reader, walk

    paths: set[str] = set()

    def guard(module: Any) -> None:
        opened = module.open_unlinked

        def open_unless_refused(path: str, flags: int, mode: int = 0) -> int:
            if any(path == refused or path.startswith(f"{refused}/") for refused in paths):
                raise PermissionError(13, "Permission denied")
            return int(opened(path, flags, mode))

        monkeypatch.setattr(module, "open_unlinked", open_unless_refused)

    for module in (reader, walk):
        guard(module)
    return lambda path: paths.add(str(path))


def new(world: World, tmp_path: Path) -> Registry:
    """A process over a new database."""
    return world.registry(url=f"sqlite:///{tmp_path / 'new.db'}")


def said(logs: list[Any]) -> list[tuple[str, str, str]]:
    return [(line["kind"], line["place"], line["what"]) for line in logs if line["event"] == SAID]


def rewrite(world: World, change: Callable[[dict[str, Any]], object], name: str = NAME) -> None:
    """Change ``index.json`` as another tool does."""
    path = world.root / name / "index.json"
    document = orjson.loads(path.read_bytes())
    change(document)
    other = path.with_suffix(".new")
    other.write_bytes(orjson.dumps(document))
    other.rename(path)


# ---- one bad member


def test_a_directory_that_cannot_be_read_stops_the_work_on_no_other(
    world: World, registry: Registry, tmp_path: Path, refused: Callable[[Path], None]
) -> None:
    pushed = push_image(registry, "1", "v1", name="a/app"), push_image(registry, "2", "v1", name="z/app")
    push_image(registry, "3", "v1", name="m/app")
    registry.fold_waiting()
    (world.root / "lost+found").mkdir()
    refused(world.root / "lost+found")
    refused(world.root / "m")
    other = new(world, tmp_path)
    with capture_logs() as logs:
        assert Rescan(other).run() == 2
        assert Rescan(other).run() == 2
    assert said(logs) == [("directory", "m", "")]
    assert other.repositories.page(last="", count=10) == ["a/app", "z/app"]
    report = rebuild_registry(other)
    assert (report.repositories, report.problems) == (2, ["m: Permission denied"])
    for made, name in zip(pushed, ("a/app", "z/app"), strict=True):
        assert pull(other, "v1", name) == made.digest
    other.backends.driver.check()
    assert other.uploads.expire() == 0


def test_a_rebuild_forgets_nothing_that_it_was_not_let_to_look_at(
    world: World, registry: Registry, refused: Callable[[Path], None]
) -> None:
    push_image(registry, "1", "v1", name="m/app")
    gone = push_image(registry, "2", "v1", name="gone")
    registry.fold_waiting()
    shutil.rmtree(world.root / "gone")
    refused(world.root / "m")
    report = rebuild_registry(registry)
    assert (report.removed, report.problems) == (1, ["m: Permission denied"])
    assert registry.repositories.page(last="", count=10) == ["m/app"]
    with pytest.raises(NameUnknown):
        pull(registry, str(gone.digest), "gone")
    with pytest.raises((Unavailable, StorageError)):
        pull(registry, "v1", "m/app")


def test_a_store_that_fails_still_ends_a_walk(world: World, tmp_path: Path) -> None:
    push_image(world.registry(), "1", "v1")
    driver = FaultyDriver(world.driver(), [Fault("children", "team", effect=StorageUnavailable("team", "it is gone"))])
    other = world.registry(driver=driver)
    with pytest.raises(StorageUnavailable):
        rebuild_registry(other)
    assert other.repositories.page(last="", count=10) == [NAME]


def test_a_manifest_that_cannot_be_read_concerns_itself_alone(
    world: World, registry: Registry, tmp_path: Path, refused: Callable[[Path], None]
) -> None:
    first, second = push_image(registry, "1", "v1", "also"), push_image(registry, "2", "v2")
    registry.fold_waiting()
    path = world.root / registry.backends.layout.blob(NAME, first.digest)
    refused(path)
    other = new(world, tmp_path)
    with capture_logs() as logs:
        for _ in range(3):
            assert pull(other, "v2") == second.digest
            for reference in ("v1", "also", str(first.digest)):
                with pytest.raises(Unavailable, match="could not be read from storage"):
                    pull(other, reference)
    assert said(logs) == [("unreadable", NAME, str(first.digest))]
    with pytest.raises(ManifestUnknown):
        pull(other, "v3")
    assert rebuild_registry(other).problems == [f"{NAME}: {first.digest}: Permission denied"]
    push_image(other, "3", "v3")
    other.fold_waiting()
    assert set(tags(other)) == {"v2", "v3"}


def test_many_that_cannot_be_read_cost_what_one_does_each(
    world: World, registry: Registry, tmp_path: Path, refused: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which tags point at them was looked for in all tags for each of them: hours for a hundred thousand."""
    for number in range(20):
        push_image(registry, str(number), f"v{number}")
    registry.fold_waiting()
    refused(world.root / registry.backends.layout.blobs(NAME, "sha256"))
    looks, listed = list[Index](), Index.tags

    def counted(index: Index) -> dict[str, Descriptor]:
        looks.append(index)
        return listed(index)

    monkeypatch.setattr(Index, "tags", counted)
    other = new(world, tmp_path)
    rebuild_registry(other)
    assert 0 < len(looks) < 10
    for number in range(20):
        with pytest.raises(Unavailable, match="could not be read from storage"):
            pull(other, f"v{number}")


def test_what_can_be_read_again_is_served_again(
    world: World, registry: Registry, tmp_path: Path, refused: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    refused(world.root / registry.backends.layout.blob(NAME, made.digest))
    other = new(world, tmp_path)
    with pytest.raises(Unavailable):
        pull(other, "v1")
    monkeypatch.undo()
    monkeypatch.setattr(repositories, "LOOK_SECONDS", 0.0)
    assert pull(world.registry(url=f"sqlite:///{tmp_path / 'new.db'}"), "v1") == made.digest


def test_an_index_that_cannot_be_read_is_said_once_and_concerns_its_repository_alone(
    world: World, registry: Registry, refused: Callable[[Path], None]
) -> None:
    push_image(registry, "1", "v1")
    made = push_image(registry, "2", "v1", name="other")
    registry.fold_waiting()
    refused(world.root / NAME / "index.json")
    rewrite(world, lambda document: document["manifests"].clear())
    counted: list[str] = []
    process = world.registry()
    process.backends.omissions.count = counted.append
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(Unavailable):
                pull(process, "v1")
            assert pull(process, "v1", "other") == made.digest
    assert said(logs) == [("repository", NAME, "")]
    assert counted == ["repository"]


def test_names_that_no_repository_can_have_are_not_entered(world: World, registry: Registry, tmp_path: Path) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    long = "/".join(["d" * 50] * 6)
    for name in ("Team/app", "lost+found", "team/.hidden", "storage/app", long, "team/blobs/x"):
        shutil.copytree(world.root / NAME, world.root / name)
    other = new(world, tmp_path)
    assert list(other.storage_walk.repositories()) == [NAME]
    assert pull(other, "v1") == made.digest
    problems = rebuild_registry(other).problems
    reason = "has an index.json, and a name that no repository can have"
    assert sorted(problems) == [f"{quoted(long)}: {reason}", f"'lost+found': {reason}"]


# ---- what is left out of a layout


def entry(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["manifests"].append(fields)


def test_entries_that_cannot_be_served_are_said_once_for_each_version_of_the_index(
    world: World, registry: Registry
) -> None:
    first, second = push_image(registry, "1", "v1"), push_image(registry, "2", "v2")
    registry.fold_waiting()
    good = {"mediaType": first.manifest.media_type, "size": len(first.manifest.data), "digest": str(first.digest)}
    ref = "org.opencontainers.image.ref.name"

    def spoil(document: dict[str, Any]) -> None:
        entry(**good, annotations={ref: "no tag\n"})(document)
        entry(**good, annotations={ref: "v2"})(document)
        entry(digest=str(second.digest), size=1)(document)

    rewrite(world, spoil)
    with capture_logs() as logs:
        for _ in range(3):
            assert set(tags(registry)) == {"v1", "v2"}
        rewrite(world, lambda document: document.update(org="example"))
        tags(registry)
    expected = [("entry", NAME, what) for what in ("'v2'", "'no tag\\n'", "")]
    assert said(logs) == 2 * expected
    problems = rebuild_registry(registry).problems
    assert [problem.split(": ", 1)[0] for problem in problems] == [NAME] * 3
    for problem, reason in zip(problems, (str(second.digest), "not a tag", "mediaType is missing"), strict=True):
        assert reason in problem


def test_of_very_many_entries_that_cannot_be_served_the_number_is_told(world: World, registry: Registry) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    rewrite(world, lambda document: document["manifests"].extend([{}] * (LISTED + 500)))
    with capture_logs() as logs:
        assert tags(registry) == ["v1"]
    assert len(said(logs)) == LISTED + 1
    problems = rebuild_registry(registry).problems
    assert problems[0] == f"{NAME}: an entry that cannot be read, number 2: descriptor.mediaType is missing"
    assert problems[-1] == f"{NAME}: and 500 more"


def test_a_manifest_of_another_type_than_its_entry_says_is_said_and_listed(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    other_type = "application/vnd.docker.distribution.manifest.v2+json"
    rewrite(world, lambda document: document["manifests"][0].update(mediaType=other_type))
    other = new(world, tmp_path)
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(ManifestUnknown):
                pull(other, "v1")
    assert said(logs) == [("manifest", NAME, str(made.digest))]
    (problem,) = rebuild_registry(other).problems
    assert problem.startswith(f"{NAME}: {made.digest}: ")
    assert other_type in problem


def test_a_blob_that_is_a_symbolic_link_is_said_and_listed(world: World, registry: Registry, tmp_path: Path) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    layer = Digest.parse(made.layer.digest)
    path = world.root / registry.backends.layout.blob(NAME, layer)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    other = new(world, tmp_path)
    with capture_logs() as logs:
        for _ in range(2):
            assert tags(other) == ["v1"]
            with pytest.raises(BlobUnknown):
                pull_blob(other, layer)
    assert said(logs) == [("blob", NAME, str(layer))]
    assert rebuild_registry(other).problems == [f"{NAME}: {layer}: is a symbolic link, which is not followed"]


def test_an_index_that_is_a_symbolic_link_makes_no_repository_and_is_said(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    push_image(registry, "1", "v1")
    registry.fold_waiting()
    (world.root / "linked").mkdir()
    (world.root / "linked/index.json").symlink_to(world.root / NAME / "index.json")
    report = rebuild_registry(new(world, tmp_path))
    assert report.problems == ["linked: index.json: is a symbolic link, which is not followed"]
    assert report.repositories == 1


# ---- links to directories


def test_two_names_for_one_directory_lose_no_acknowledged_push(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    push_image(registry, "0", "v0")
    registry.fold_waiting()
    (world.root / "alias").symlink_to(world.root / "team")
    acknowledged = ["v0"]
    for number in range(1, 6):
        process = world.registry()
        push_image(process, f"{number}", f"v{number}")
        acknowledged.append(f"v{number}")
        with pytest.raises(Unavailable):
            push_image(process, f"{number} by the link", f"w{number}", name="alias/app")
        process.fold_waiting()
    assert set(tags(registry)) == set(acknowledged)
    assert set(read_index(registry).tags()) == set(acknowledged)
    other = new(world, tmp_path)
    assert rebuild_registry(other).problems == ["alias: is a symbolic link, which is not followed"]
    assert other.repositories.page(last="", count=10) == [NAME]
    assert set(tags(other)) == set(acknowledged)


def test_links_that_lead_to_themselves_and_out_of_the_root_end_no_walk(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    outside = tmp_path / "outside"
    shutil.copytree(world.root / "team", outside)
    before = sorted(outside.rglob("*"))
    for name, target in (("one", world.root), ("two", world.root), ("team/up", world.root), ("far", outside)):
        (world.root / name).symlink_to(target)
    other = new(world, tmp_path)
    assert Rescan(other).run() == 1
    problems = rebuild_registry(other).problems
    assert sorted(problem.split(":")[0] for problem in problems) == ["far", "one", "team/up", "two"]
    assert pull(other, "v1") == made.digest
    with pytest.raises(Unavailable):
        push_image(other, "2", "v2", name="far/app")
    assert sorted(outside.rglob("*")) == before


def test_a_repository_that_a_link_has_replaced_is_not_forgotten(
    world: World, registry: Registry, tmp_path: Path
) -> None:
    """As a former release took it: it comes back when the directory is mounted in the place of the link."""
    made = push_image(registry, "1", "v1")
    registry.fold_waiting()
    (world.root / "team").rename(tmp_path / "big-disk")
    (world.root / "team").symlink_to(tmp_path / "big-disk")
    with pytest.raises((Unavailable, PathRefused)):  # both are 503
        pull(registry, "v1")
    assert rebuild_registry(registry).removed == 0
    (world.root / "team").unlink()
    (tmp_path / "big-disk").rename(world.root / "team")
    assert pull(registry, "v1") == made.digest


def test_an_upload_that_cannot_be_looked_at_or_freed_stops_the_expiry_of_no_other(
    world: World, registry: Registry
) -> None:
    uploads = sorted(noted(registry.uploads.start(NAME)) for _ in range(4))  # as the store has them
    refusing = Fault("*upload", uploads[1], times=None, effect=PathRefused(uploads[1], "Permission denied"))
    process = world.registry(driver=FaultyDriver(world.driver(), [refusing]))
    (world.root / ".uploads/tmp-1").symlink_to(world.root / "m/.tmp-1")
    world.clock.now += 1_000_000
    with capture_logs() as logs:
        for _ in range(3):
            process.uploads.expire()
    assert process.uploads.count() == 1
    assert said(logs) == [("upload", "uploads", uploads[1])]


def test_a_directory_among_the_uploads_stops_the_expiry_of_no_other(world: World, registry: Registry) -> None:
    for name in ("0-backup", "z-backup"):
        (world.root / ".uploads" / name).mkdir()
    registry.uploads.start(NAME)
    world.clock.now += 1_000_000
    with capture_logs() as logs:
        for _ in range(3):
            registry.uploads.expire()
    assert registry.uploads.count() == 0
    assert sorted(said(logs)) == [("upload", "uploads", "0-backup"), ("upload", "uploads", "z-backup")]


def test_a_deletion_that_is_refused_stops_no_other(world: World, registry: Registry) -> None:
    blobs = [push_blob(registry, text) for text in (b"one", b"two", b"three")]
    keys = [registry.backends.layout.blob(NAME, digest) for digest in blobs]
    dying = Fault("delete_once", times=None, effect=StorageUnavailable("", "killed"))
    for digest in blobs:
        with pytest.raises(StorageUnavailable):
            world.registry(driver=FaultyDriver(world.driver(), [dying])).blobs.delete(NAME, digest)
    refusing = Fault("delete_once", effect=PathRefused("", "Permission denied"))
    process = world.registry(driver=FaultyDriver(world.driver(), [refusing]))
    world.clock.now += 1000
    with capture_logs() as logs:
        assert process.blob_deletion.finish_abandoned() == 2
    assert sum((world.root / key).exists() for key in keys) == 1
    assert [kind for kind, _, _ in said(logs)] == ["blob"]
    world.clock.now += 1000
    assert process.blob_deletion.finish_abandoned() == 1
    assert not any((world.root / key).exists() for key in keys)
