"""Whether the original was left alone while a pass read it: its second listing, compared with the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.images.index_file import MAX_INDEX
from registry.migration.progress import Progress
from registry.migration.source.detection import classify
from registry.migration.source.layout import ObjectKind, RepositoryPath
from registry.migration.source.zot import is_ours
from registry.oci.errors import ManifestInvalid
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from registry.migration.adopt.baselines import Baselines
    from registry.migration.context import Context
    from registry.migration.source.inventory import Change

_NOT_OF_THE_ORIGINAL = (ObjectKind.OUR_BLOB, ObjectKind.OUR_RECORD, ObjectKind.MARKER, ObjectKind.LEFT)
"""Ours; what is always the same; and what scanners and sessions write, which is no push."""


def changed_during_pass(context: Context, bases: Baselines) -> set[str]:
    """The repositories, or keys of no repository, that differ between both listings; none: the pass is quiet.

    What Stowage writes meanwhile is no difference. Raises StorageError.
    """
    found: set[str] = set()

    def listed(count: int) -> None:
        context.on_progress(Progress("listing again", count))

    for change in context.inventory.changes(context.driver, classify, listed):
        if change.entry.kind in _NOT_OF_THE_ORIGINAL:
            continue
        if change.entry.kind is not ObjectKind.INDEX:
            found.update(_names(context, change))
        elif not _is_by_stowage(context, bases, change):
            found.add(_name(context, change.entry.repository))
    return found


def _names(context: Context, change: Change) -> set[str]:
    """Whose object it is, and who relied on what was there."""
    rows = context.inventory.rows("SELECT repository FROM wanted WHERE digest = ?", change.entry.digest)
    relying = {name for (name,) in rows} if change.before is not None else set()
    path = change.entry.repository
    return relying | {_name(context, path)} if path else relying or {change.key}


def _name(context: Context, path: str) -> str:
    return context.inventory.value("SELECT name FROM repository WHERE path = ?", path) or path


def _is_by_stowage(context: Context, bases: Baselines, change: Change) -> bool:
    """Whether an index came or changed without a word of the original."""
    if context.layout.bytes_kind is ObjectKind.DATA:
        return True  # the original has no such files
    path = change.entry.repository
    row = context.inventory.rows("SELECT name, prefix FROM repository WHERE path = ?", path)
    if not row:
        return _is_ours(context, change)
    located = RepositoryPath(row[0][0], path, row[0][1])
    base = bases.current(located.name)
    if base is None or not base.overwritten:
        return False
    now = bases.shared(located, base, context.inventory)
    said = context.inventory.rows("SELECT name, digest FROM tag WHERE repository = ?", located.name)
    listed = context.inventory.rows("SELECT digest FROM member WHERE repository = ?", located.name)
    return now is not None and now.tags == dict(said) and {(digest,) for digest in now.manifests} <= set(listed)


def _is_ours(context: Context, change: Change) -> bool:
    """Whether an index of which the first listing knew nothing, or that it knew as ours, is ours."""
    try:
        return is_ours(context.driver.read(change.key, max_bytes=MAX_INDEX)[0])
    except PathNotFound:
        return True
    except (ManifestInvalid, ObjectTooLarge):
        return False
