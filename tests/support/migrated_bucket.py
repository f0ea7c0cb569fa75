"""Migrated bucket: objects in memory that another registry filled, a database beside them, and runs over both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

from registry.config.settings import Settings
from registry.images.registry import Registry
from registry.migration.adopt.adopt import Pass
from registry.migration.command import Run
from registry.migration.consolidate.consolidate import consolidate
from registry.migration.context import Context, RunOptions
from registry.migration.progress import OnProgress, silent
from registry.migration.report import Report
from registry.migration.review.requests import Tally
from registry.oci.digest import Digest
from registry.storage.driver import StorageDriver
from tests.support.registry_world import World
from tests.support.source_world import Repository, Tree, distribution, fill, per_repository, repositories

Make = Callable[[list[Repository]], Tree]
MAKE: dict[str, Make] = {
    "zot": lambda content: per_repository(content, prefix="zot/"),
    "zot-without-prefix": per_repository,
    "distribution": distribution,
}
"""By name: what makes a tree of the content of repositories."""


class Bucket:
    """What outlives a process: objects and a database."""

    def __init__(self, directory: Path, layout: str, tree: Tree | None = None, *, world: World | None = None) -> None:
        """``tree``: of that layout, or what the layout makes of ``repositories``. ``world``: by default in memory."""
        self.world = world or World(directory, "memory")
        self.layout = layout
        self.root = "zot" if layout == "zot" else "/"
        self.source = MAKE[layout](repositories()) if tree is None else dict(tree)
        fill(self.driver, self.source)

    def copy(self, directory: Path) -> Bucket:
        """The same bucket and database once more, without a process: as if each had been killed now."""
        made = copy(self)
        made.world = self.world.copy(directory)
        return made

    @property
    def driver(self) -> StorageDriver:
        """The store itself."""
        return self.world.driver()

    def registry(self, **more: Any) -> Registry:
        """A new process."""
        return self.world.registry(**more)

    def settings(self, *, parallel: int = 1) -> Settings:
        """The settings of a run."""
        storage = {"driver": "s3", "root_directory": self.root, "s3": {"bucket": "b"}}
        return Settings(storage=storage, migration={"parallel": parallel})  # type: ignore[arg-type]

    def process(self, registry: Registry | None = None, options: RunOptions | None = None) -> Run:
        """The command in a process of its own, unless ``registry`` is one."""
        return Run(registry or self.registry(), self.settings(), options or RunOptions(), Tally())

    def run(self, registry: Registry | None = None, options: RunOptions | None = None, *, parallel: int = 1) -> Report:
        """A run of the command, in a process of its own unless ``registry`` is one."""
        settings = self.settings(parallel=parallel)
        return Run(registry or self.registry(), settings, options or RunOptions(), Tally()).run()

    def adopt(self, registry: Registry | None = None) -> Pass:
        """One pass, whether it is quiet or not."""
        found = self.run(registry, RunOptions(adopt_only=True))
        assert isinstance(found, Pass)
        return found

    def become(self, content: list[Repository]) -> None:
        """Write and delete as the source does, which has ``content`` from now on."""
        tree = MAKE[self.layout](content)
        for key, data in tree.items():
            if self.source.get(key) != data:
                self.driver.write(key, data)
        self.driver.delete(self.source.keys() - tree.keys())
        self.source = dict(tree)

    def objects(self, *prefixes: str) -> dict[str, bytes]:
        """Every object, or those below some directories."""
        return contents(self.driver, *prefixes)


def contents(driver: StorageDriver, *prefixes: str) -> dict[str, bytes]:
    """Every object of a small store."""
    keys = [key for prefix in prefixes or ("",) for key, _ in driver.list(prefix)]
    return {key: driver.read(key, max_bytes=1 << 20)[0] for key in keys}


def check_served(registry: Registry, content: list[Repository]) -> None:
    """Everything that is described is there, by tags and digests, with its bytes."""
    for repository in content:
        assert registry.manifests.tags(repository.name, last="", count=100)[0] == sorted(repository.tags)
        for tag, manifest in repository.tags.items():
            assert registry.manifests.find(repository.name, tag).digest == manifest.digest
        for manifest in repository.manifests:
            found = registry.manifests.find(repository.name, Digest.parse(manifest.digest))
            assert registry.manifests.read(found) == manifest.data
            assert found.media_type == manifest.media_type
        for blob in repository.blobs:
            digest = Digest.parse(blob.digest)
            held = registry.blobs.open(repository.name, digest)
            with registry.blobs.read(held) as reader:
                assert reader.read(1 << 20) == blob.data


@contextmanager
def opened(directory: Path, layout: str, prepare: Callable[[Bucket], object]) -> Iterator[Bucket]:
    """A bucket of that layout, prepared, for a block."""
    made = Bucket(directory, layout)
    prepare(made)
    yield made
    made.world.close()


@contextmanager
def reading(
    bucket: Bucket,
    registry: Registry | None = None,
    *,
    parallel: int = 1,
    on_progress: OnProgress = silent,
    storage: dict[str, Any] | None = None,
) -> Iterator[Context]:
    """A context in a process of its own unless ``registry`` is one, after the listing."""
    registry = registry or bucket.registry()
    chosen = bucket.settings(parallel=parallel)
    if storage is not None:
        chosen = chosen.model_copy(update={"storage": chosen.storage.model_copy(update=storage)})
    run = Run(registry, chosen, RunOptions(), Tally(), on_progress)
    registry.source_locations.ensure(again=True)
    with run._reading(run._journal.resume()) as context:
        assert context is not None
        yield context


def consolidated(bucket: Bucket, registry: Registry | None = None, **more: Any) -> Report:
    """Copy what is not copied."""
    with reading(bucket, registry, **more) as context:
        return consolidate(context)


def finalizing(bucket: Bucket, registry: Registry | None = None) -> Report:
    """Delete what is copied, as the command does."""
    return Run(registry or bucket.registry(), bucket.settings(parallel=1), RunOptions(), Tally()).finalize()
