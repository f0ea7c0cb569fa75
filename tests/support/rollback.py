"""Rollbacks: what clients do before one, what the source registry is to hold and serves then, and single steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from registry.images.migration_journal.documents import Phase
from registry.images.registry import Registry
from registry.migration.command import Run
from registry.migration.context import RunOptions
from registry.migration.report import Report
from registry.migration.review.requests import Tally
from registry.migration.rollback.plan import RollbackPlan
from registry.migration.rollback.steps import Copy, Delete, Source, SourceIndex, Step, TargetContent, WantedManifest
from registry.migration.source.detection import classify
from registry.migration.source.inventory import Inventory
from registry.migration.source.layout import SourceLayout
from registry.migration.source.objects import RepositoryPath
from registry.oci.digest import Digest
from registry.storage.driver import StorageDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.migrated_bucket import Bucket
from tests.support.payloads import Blob, Manifest, image
from tests.support.registry_world import push_blob, push_manifest
from tests.support.served_tags import Tags, distribution_tags, zot_tags
from tests.support.source_world import (
    ATTACHED,
    EMPTY_JSON,
    ON_AMD,
    SBOM,
    SHARED,
    TREE,
    Repository,
    data_key,
    path,
    repositories,
)

LAYER, NEW_CONFIG = Blob(b"pushed since " * 300), Blob(b'{"architecture": "riscv64"}')
PUSHED = image(NEW_CONFIG, [SHARED, LAYER])


def running(
    bucket: Bucket,
    registry: Registry | None = None,
    *,
    accept_loss: bool = False,
    parallel: int = 1,
    tally: Tally | None = None,
) -> Run:
    """The command, in a process of its own unless ``registry`` is one."""
    options = RunOptions(accept_loss=accept_loss)
    return Run(registry or bucket.registry(), bucket.settings(parallel=parallel), options, tally or Tally())


def back(bucket: Bucket, registry: Registry | None = None, *, accept_loss: bool = False, parallel: int = 1) -> Report:
    return running(bucket, registry, accept_loss=accept_loss, parallel=parallel).rollback()


def planned(bucket: Bucket, registry: Registry | None = None) -> RollbackPlan:
    return running(bucket, registry).plan_rollback()


def push(registry: Registry, name: str, made: Manifest, blobs: list[Blob], *tags: str) -> None:
    for blob in blobs:
        push_blob(registry, blob.data, name, blob.algorithm)
    push_manifest(registry, made, *tags, name=name)


def change(registry: Registry) -> list[Repository]:
    """Pushes, to what was there and to a new repository, a moved tag, deletions; what there is then."""
    push(registry, "app", PUSHED, [NEW_CONFIG, SHARED, LAYER], "new", "amd")
    push(registry, "brand/new", PUSHED, [NEW_CONFIG, SHARED, LAYER], "v1")
    registry.manifests.untag("team/web", "stable", actor="client")
    registry.manifests.delete("app", Digest(ATTACHED.digest), actor="client")
    for blob in (SBOM, EMPTY_JSON):
        registry.blobs.delete("app", Digest(blob.digest))
    registry.fold_waiting()
    content = repositories()
    app, web, _ = content
    app.tags |= {"new": PUSHED, "amd": PUSHED}
    app.untagged = [made for made in (*app.untagged, ON_AMD) if made != ATTACHED]
    app.blobs = [blob for blob in app.blobs if blob not in {SBOM, EMPTY_JSON}] + [NEW_CONFIG, LAYER]
    del web.tags["stable"]
    return [*content, Repository("brand/new", {"v1": PUSHED}, [], [NEW_CONFIG, SHARED, LAYER])]


def source_tree(bucket: Bucket) -> dict[str, bytes]:
    """What the source sees: objects that Stowage has for itself left out."""
    found = bucket.objects()
    prefix = {"zot": "zot/", "zot-without-prefix": "", "distribution": f"{TREE}/"}[bucket.layout]
    return {key: data for key, data in found.items() if key.startswith(prefix) and not _is_own(key)}


def _is_own(key: str) -> bool:
    return key.startswith("storage/") or "/.journal/" in key


def check_source(bucket: Bucket, content: list[Repository]) -> None:
    """Every tag, with everything below it, and no tag more."""
    served = tags_of_source(bucket)
    for repository in content:
        tags = {tag: made.digest for tag, made in repository.tags.items()}
        assert served.get(repository.name, {}) == tags, repository.name


def tags_of_source(bucket: Bucket) -> Tags:
    """What the source serves of the bucket, everything that they point at being whole."""
    tree = source_tree(bucket)
    if bucket.layout == "distribution":
        return distribution_tags(tree)
    return zot_tags(tree, "zot/" if bucket.layout == "zot" else "")


def give_back_untaken(bucket: Bucket) -> None:
    """A client pushes ``app:new`` before the first pass, which is not quiet because the source is pushed to."""
    registry = bucket.registry()
    push(registry, "app", PUSHED, [NEW_CONFIG, SHARED, LAYER], "new")
    registry.fold_waiting()

    def push_theirs() -> None:
        bucket.driver.write(_layer_key(bucket.layout), b"pushed")

    pushing = Fault("list", "", first=3, effect=push_theirs)
    found = bucket.run(bucket.registry(driver=FaultyDriver(bucket.driver, [pushing])), RunOptions(adopt_only=True))
    assert found.state == Phase.ADOPTING
    back(bucket)


def _layer_key(layout: str) -> str:
    if layout == "distribution":
        return data_key(str(Digest.of(b"pushed")))
    return f"{'zot/' if layout == 'zot' else ''}app/blobs/{path(str(Digest.of(b'pushed')))}"


def put_ours(driver: StorageDriver, content: Iterable[Repository]) -> None:
    """The bytes of everything where Stowage keeps what is pushed to it."""
    for repository in content:
        every: list[Blob | Manifest] = [*repository.blobs, *repository.manifests]
        for made in every:
            driver.write(f"storage/blobs/{path(made.digest)}", made.data)


def listed(driver: StorageDriver) -> Inventory:
    """An inventory that was listed and not read."""
    inventory = Inventory()
    inventory.fill(driver, classify, lambda _: None)
    return inventory


def wanted(
    repository: Repository,
    located: RepositoryPath,
    inventory: Inventory,
    *,
    before: Repository | None = None,
    document: SourceIndex | None = None,
    gone: Iterable[Blob] = (),
    lost: Iterable[str] = (),
) -> TargetContent:
    """The whole of a repository, with our objects as the sources; ``before`` is what the source had."""
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
        _ours(inventory),
        document,
        said={tag: Digest(made.digest) for tag, made in had.tags.items()},
        gone_tags=[tag for tag in had.tags if tag not in repository.tags],
        gone_manifests=[Digest(made.digest) for made in had.manifests if made not in repository.manifests],
        gone_blobs=_digests(blob.digest for blob in gone),
        lost=list(lost),
    )


def _digests(texts: Iterable[str]) -> tuple[Digest, ...]:
    return tuple(Digest(text) for text in texts)


def _ours(inventory: Inventory) -> Mapping[Digest, Source]:
    found = inventory.rows("SELECT digest, key, etag FROM object WHERE kind = 'our-blob'")
    return {Digest(digest): Source(key, etag) for digest, key, etag in found}


def apply(driver: StorageDriver, step: Step) -> None:
    """Do what a step says."""
    if isinstance(step, Copy):
        data, stat = driver.read(step.source, max_bytes=1 << 20)
        assert (stat.etag, len(data)) == (step.etag, step.size)
        assert Digest.of(data, step.digest.algorithm) == step.digest
        driver.write(step.target, data)
    elif isinstance(step, Delete):
        driver.delete(step.keys)
    elif step.if_etag:
        driver.write(step.key, step.data, if_etag=step.if_etag)
    else:
        driver.write(step.key, step.data, if_absent=True)


def tree_of(driver: StorageDriver) -> dict[str, bytes]:
    """Everything that is not below ``storage/``."""
    return {key: driver.read(key, max_bytes=1 << 20)[0] for key, _ in driver.list("") if not key.startswith("storage/")}


def whole(
    layout: SourceLayout, content: Iterable[Repository], located: Iterable[RepositoryPath], driver: StorageDriver
) -> None:
    """Make a source of nothing, from our objects alone."""
    put_ours(driver, content)
    for repository, place in zip(content, located, strict=True):
        with listed(driver) as inventory:
            key = f"{place.path}/index.json"
            document = SourceIndex(key, b"", b"", "") if layout.has_stubs else None
            for step in layout.steps(wanted(repository, place, inventory, document=document), inventory):
                apply(driver, step)
