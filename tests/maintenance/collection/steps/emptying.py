"""Repositories that were emptied, and what lists have of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from registry.database import repositories
from registry.database.collection import empty_repositories
from registry.database.errors import DatabaseError
from registry.images.records.journal import Journal
from registry.images.registry import Registry
from registry.maintenance.collection.budget import Budget
from registry.maintenance.collection.finding import Kind
from registry.maintenance.collection.run import CollectionRun, Wanted
from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError
from tests.support.collection import Report, run
from tests.support.payloads import Manifest, index
from tests.support.registry_world import (
    ACTOR,
    NAME,
    REPLICAS_KIND,
    World,
    push_blob,
    push_image,
)

GRACE = 100.0
WINDOW = 1000.0
TIMES: dict[str, Any] = {"lease": 0, "grace": GRACE, "undelete_window": WINDOW}
SHARED = ["memory", REPLICAS_KIND]
"""The kinds where a repository without a manifest is nothing but its row."""
NAMES_NOTHING: Manifest = index([])


def listed(registry: Registry) -> list[str]:
    return registry.repositories.page(last="", count=100)


def used_again(registry: Registry) -> list[int]:
    """The repositories that are hidden, and have a member."""
    with registry.backends.database.autocommit() as connection:
        return empty_repositories.listed_again(connection, count=10).get()


def has_row(registry: Registry, name: str = NAME) -> bool:
    with registry.backends.database.autocommit() as connection:
        return repositories.find(connection, name).get() is not None


def stored(registry: Registry) -> dict[str, str]:
    """The etag of every object that is no blob."""
    return {key: stat.etag for key, stat in registry.backends.driver.list("") if "/blobs/" not in f"/{key}"}


def repositories_of(report: Report) -> list[tuple[str | None, str]]:
    """The repositories that a run has removed, with the reasons."""
    return [(each.repository, each.reason) for each in report.removed if each.kind is Kind.REPOSITORY]


def pass_grace(world: World, registry: Registry) -> None:
    """Two runs, with the grace between them: what is out of use for that long has gone with the second."""
    run(registry)
    world.clock.now += GRACE + 1
    run(registry)


def empty_used(world: World, registry: Registry, *names: str) -> None:
    """Push an image, delete it, and let everything go that it has left but for the repository."""
    for name in names or (NAME,):
        image = push_image(registry, "gone", "v1", name=name)
        registry.fold_waiting()
        registry.manifests.delete(name, image.digest, actor=ACTOR)
    run(registry)
    world.clock.now += WINDOW + 1
    run(registry)


def empty_unused(world: World, registry: Registry, name: str = NAME) -> None:
    """Push a blob that no manifest comes to name, and let it go."""
    push_blob(registry, b"a push that was given up", name)
    pass_grace(world, registry)


def last_record(registry: Registry, name: str = NAME) -> int:
    return Journal(registry.backends).last(name)


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Does ``action`` the first time that it is called."""
    left = [action]

    def act() -> None:
        while left:
            left.pop()()

    return act


def attempt(registry: Registry) -> Report:
    """One run, whatever becomes of it, without a fold before it."""
    report = Report()
    try:
        CollectionRun(registry, Wanted(), report.ledger, Budget(None), {}).finish()
    except (StorageError, DatabaseError, RegistryError) as error:
        report.ledger.trouble(str(error))
    return report
