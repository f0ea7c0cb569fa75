"""Quiet: whether a source registry was left alone while a pass read it, found by a second listing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.migration.progress import Progress
from registry.migration.source.detection import classify
from registry.migration.source.objects import ObjectKind, RepositoryPath
from registry.migration.source.tables import BATCH
from registry.oci.index import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.migration.adopt.baselines import Baselines
    from registry.migration.context import Context
    from registry.migration.source.inventory import Inventory
    from registry.migration.source.objects import KeyInfo
    from registry.storage.driver import StorageDriver

_NO_PUSH = (ObjectKind.OUR_BLOB, ObjectKind.OUR_RECORD, ObjectKind.MARKER, ObjectKind.LEFT)
"""What no push to the source registry changes: ours, markers, and what scanners and sessions leave."""
_Version = tuple[int, str]
"""Size and etag."""


class Change(NamedTuple):
    """A key that came, went, or has other bytes than before."""

    key: str
    entry: KeyInfo
    before: _Version | None
    """None if it was not there."""
    now: _Version | None
    """None if it is not there."""


def changed_during_pass(context: Context, bases: Baselines) -> set[str]:
    """The repositories, or keys outside of repositories, that differ between both listings; none if the pass is quiet.

    Objects that Stowage writes meanwhile are left out. Raises StorageError.
    """
    found: set[str] = set()

    def listed(count: int) -> None:
        context.on_progress(Progress("listing again", count))

    for change in changes(context.inventory, context.driver, listed):
        if change.entry.kind in _NO_PUSH:
            continue
        if change.entry.kind is not ObjectKind.INDEX:
            found.update(_names(context, change))
        elif not _is_by_stowage(context, bases, change):
            found.add(_name(context, change.entry.repository))
    return found


def changes(inventory: Inventory, driver: StorageDriver, on_listed: Callable[[int], None]) -> Iterator[Change]:
    """List the whole root again and compare it, as it comes, with what the inventory has. Raises StorageError.

    The changes come by key; objects that are in no layout are left out. The inventory must stay as it is meanwhile.
    """
    before = inventory.listed()
    known = next(before, None)
    for seen, (key, stat) in enumerate(driver.list(""), 1):
        if seen % BATCH == 0:
            on_listed(seen)
        while known is not None and known[0] < key:
            yield from _change(known[0], known[1], None)
            known = next(before, None)
        noted = None
        if known is not None and known[0] == key:
            noted, known = known[1], next(before, None)
        if noted != (stat.size, stat.etag):
            yield from _change(key, noted, (stat.size, stat.etag))
    while known is not None:
        yield from _change(known[0], known[1], None)
        known = next(before, None)


def _change(key: str, before: _Version | None, now: _Version | None) -> Iterator[Change]:
    entry = classify(key)
    if entry is not None:
        yield Change(key, entry, before, now)


def _names(context: Context, change: Change) -> set[str]:
    """The repositories that own the changed object, and those whose manifests name its digest."""
    wanting = context.inventory.repositories_wanting(change.entry.digest) if change.before is not None else ()
    path = change.entry.repository
    return {*wanting, _name(context, path)} if path else set(wanting) or {change.key}


def _name(context: Context, path: str) -> str:
    row = context.inventory.repository(path)
    return path if row is None else row.name


def _is_by_stowage(context: Context, bases: Baselines, change: Change) -> bool:
    """Whether an index came or changed although the source registry says the same."""
    if context.layout.bytes_kind is ObjectKind.DATA:
        return True  # the source registry has no such files
    path = change.entry.repository
    row = context.inventory.repository(path)
    if row is None:
        return context.registry.backends.index_file.owner(path) is not Owner.FOREIGN
    located = RepositoryPath(row.name, path, row.prefix)
    base = bases.current(located.name)
    if base is None or not base.overwritten:
        return False
    now = bases.from_shared_index(located, base, context.inventory)
    said = {tag.name: tag.digest for tag in context.inventory.tags(located.name)}
    listed = {member.digest for member in context.inventory.members(located.name)}
    return now is not None and now.tags == said and now.manifests.keys() <= listed
