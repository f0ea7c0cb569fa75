"""What a rollback is to make of a repository of the world, and the making of it, one step after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.migration.rollback.steps import Copy, Delete, Source, SourceIndex, Step, TargetContent, WantedManifest
from registry.migration.source.detection import classify
from registry.migration.source.inventory import Inventory
from registry.oci.digest import Digest
from tests.support.source_world import Repository, path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.migration.source.layout import RepositoryPath, SourceLayout
    from registry.storage.driver import StorageDriver
    from tests.support.payloads import Blob, Manifest


def put_ours(driver: StorageDriver, content: Iterable[Repository]) -> None:
    """The bytes of everything where Stowage keeps what is pushed to it."""
    for repository in content:
        every: list[Blob | Manifest] = [*repository.blobs, *repository.manifests]
        for made in every:
            driver.write(f"storage/blobs/{path(made.digest)}", made.data)


def listed(driver: StorageDriver) -> Inventory:
    """A snapshot that was listed and not read."""
    snapshot = Inventory()
    snapshot.fill(driver, classify, lambda _: None)
    return snapshot


def wanted(
    repository: Repository,
    located: RepositoryPath,
    snapshot: Inventory,
    *,
    before: Repository | None = None,
    document: SourceIndex | None = None,
    gone: Iterable[Blob] = (),
    lost: Iterable[str] = (),
) -> TargetContent:
    """The whole of a repository, with our objects as the sources; ``before`` is what the original had."""
    had = before or Repository(repository.name)
    ordered = sorted(repository.manifests, key=lambda made: len(made.children))
    return TargetContent(
        located,
        {tag: Digest(made.digest) for tag, made in repository.tags.items()},
        {
            Digest(made.digest): WantedManifest(
                made.media_type,
                len(made.data),
                _digests(made.blobs),
                children=_digests(made.children),
                taken_for=made.media_type,
            )
            for made in ordered
        },
        {Digest(blob.digest): len(blob.data) for blob in repository.blobs},
        _ours(snapshot),
        document,
        said={tag: Digest(made.digest) for tag, made in had.tags.items()},
        gone_tags=[tag for tag in had.tags if tag not in repository.tags],
        gone_manifests=[Digest(made.digest) for made in had.manifests if made not in repository.manifests],
        gone_blobs=_digests(blob.digest for blob in gone),
        lost=list(lost),
    )


def _digests(texts: Iterable[str]) -> tuple[Digest, ...]:
    return tuple(Digest(text) for text in texts)


def _ours(snapshot: Inventory) -> Mapping[Digest, Source]:
    found = snapshot.rows("SELECT digest, key, signature FROM object WHERE kind = 'our-blob'")
    return {Digest(digest): Source(key, signature) for digest, key, signature in found}


def apply(driver: StorageDriver, step: Step) -> None:
    """Do what a step says."""
    if isinstance(step, Copy):
        data, stat = driver.read(step.source, max_bytes=1 << 20)
        assert (stat.signature, len(data)) == (step.signature, step.size)
        assert Digest.of(data, step.digest.algorithm) == step.digest
        driver.write(step.target, data)
    elif isinstance(step, Delete):
        driver.delete(step.keys)
    elif step.if_signature:
        driver.write(step.key, step.data, if_signature=step.if_signature)
    else:
        driver.write(step.key, step.data, if_absent=True)


def tree_of(driver: StorageDriver) -> dict[str, bytes]:
    """Everything that is not below ``storage/``."""
    return {key: driver.read(key, max_bytes=1 << 20)[0] for key, _ in driver.list("") if not key.startswith("storage/")}


def whole(
    layout: SourceLayout, content: Iterable[Repository], located: Iterable[RepositoryPath], driver: StorageDriver
) -> None:
    """Make an original of nothing, from our objects alone."""
    put_ours(driver, content)
    for repository, place in zip(content, located, strict=True):
        with listed(driver) as snapshot:
            key = f"{place.path}/index.json"
            document = SourceIndex(key, b"", b"", "") if layout.has_stubs else None
            for step in layout.steps(wanted(repository, place, snapshot, document=document), snapshot):
                apply(driver, step)
