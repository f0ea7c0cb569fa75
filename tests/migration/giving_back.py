"""The way back of a bucket in memory, what clients do before it, and what the original serves then."""

from __future__ import annotations

from registry.images.migration_journal.documents import Phase
from registry.images.registry import Registry
from registry.migration.command import Run
from registry.migration.context import RunOptions
from registry.migration.report import Report
from registry.migration.review.requests import Tally
from registry.migration.rollback.plan import RollbackPlan
from registry.oci.digest import Digest
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.migration.adopting import Bucket
from tests.migration.as_original import Tags, distribution_tags, zot_tags
from tests.support.payloads import Blob, Manifest, image
from tests.support.registry_world import push_blob, push_manifest
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


def original(bucket: Bucket) -> dict[str, bytes]:
    """What the original sees: objects that Stowage has for itself left out."""
    found = bucket.objects()
    prefix = {"zot": "zot/", "zot-without-prefix": "", "distribution": f"{TREE}/"}[bucket.layout]
    return {key: data for key, data in found.items() if key.startswith(prefix) and not _is_own(key)}


def _is_own(key: str) -> bool:
    return key.startswith("storage/") or "/.journal/" in key


def check_original(bucket: Bucket, content: list[Repository]) -> None:
    """Every tag, with everything below it, and no tag more."""
    served = tags_of_original(bucket)
    for repository in content:
        tags = {tag: made.digest for tag, made in repository.tags.items()}
        assert served.get(repository.name, {}) == tags, repository.name


def tags_of_original(bucket: Bucket) -> Tags:
    """What the original serves of the bucket, everything that they point at being whole."""
    tree = original(bucket)
    if bucket.layout == "distribution":
        return distribution_tags(tree)
    return zot_tags(tree, "zot/" if bucket.layout == "zot" else "")


def give_back_untaken(bucket: Bucket) -> None:
    """A client pushes ``app:new`` before the first pass, which is not quiet because the original is pushed to."""
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
