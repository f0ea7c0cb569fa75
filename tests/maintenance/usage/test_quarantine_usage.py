"""What is in quarantine is a figure of its own, and agrees with the disk or the bucket to the byte."""

from __future__ import annotations

import pytest

from registry.images.registry import Registry
from registry.maintenance.usage.figures import Figures
from registry.maintenance.usage.range_usage import ALL, RangeUsage, below
from registry.maintenance.usage.repository_usage import RepositoryUsage
from tests.maintenance.scrub.place import flip, key_of, scrub
from tests.maintenance.usage.listings import on_storage
from tests.support.registry_world import World, push_blob, push_image

NAMES = ["team/app", "team/lib", "other/app"]


def total(registry: Registry, prefix: str | None = None) -> Figures:
    return RangeUsage(registry.backends).measure(ALL if prefix is None else below(prefix))


def of(registry: Registry, name: str) -> int:
    found = RepositoryUsage(registry.backends).known(name)
    assert found is not None
    return found.quarantine


def in_quarantine(world: World) -> int:
    """The inodes of the directory, as ``du`` counts them."""
    stats = [path.stat() for path in (world.root / ".quarantine").rglob("*") if path.is_file()]
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())


@pytest.mark.parametrize("page", [1, 500])
def test_it_is_what_storage_has(world: World, registry: Registry, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr("registry.database.usage.blobs.PAGE", page)
    monkeypatch.setattr("registry.maintenance.usage.quarantine_usage.WINDOW", page)
    for name in NAMES:
        push_image(registry, "right", "v1", name=name)
        shared = push_blob(registry, b"shared and wrong", name)
    alone = push_blob(registry, b"wrong", "team/app")
    registry.fold_waiting()
    assert (total(registry).quarantine, of(registry, "team/app")) == (0, 0)
    flip(world, key_of(registry, shared, "team/app"))
    flip(world, key_of(registry, alone, "team/app"))
    if not registry.backends.layout.per_repository:
        world.driver().delete([key_of(registry, push_blob(registry, b"missing", "team/app"))])
    scrub(registry)
    expected = len(b"shared and wrong") + len(b"wrong")
    found = total(registry)
    assert found.quarantine == total(registry, "team").quarantine == of(registry, "team/app") == expected
    assert of(registry, "team/lib") == len(b"shared and wrong") == total(registry, "other").quarantine
    assert found.document()["quarantine"] == expected
    if world.kind == "local":
        assert found.quarantine == in_quarantine(world)
        assert found.stored == on_storage(world, *NAMES)
    else:
        assert found.stored + found.quarantine == on_storage(world)


def test_what_is_healed_is_in_quarantine_no_more(world: World, registry: Registry) -> None:
    digest = push_blob(registry, b"wrong", "team/app")
    flip(world, key_of(registry, digest, "team/app"))
    scrub(registry)
    assert total(registry).quarantine == len(b"wrong")
    push_blob(registry, b"wrong", "team/app")
    scrub(registry)
    assert total(registry).quarantine == of(registry, "team/app") == 0
