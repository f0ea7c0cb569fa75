"""Walk: the keys below a prefix of a local store, in their order. Symbolic links are not followed.

Tests: ``tests/storage/test_driver_contract_listing.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from registry.storage.driver import Child
from registry.storage.errors import PathNotFound
from registry.storage.keys import OWN_SEGMENTS, TEMPORARY_SEGMENT
from registry.storage.local.opening import open_unlinked, stat_unlinked
from registry.storage.local.root import is_object, object_stat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.driver import ObjectStat
    from registry.storage.local.root import LocalRoot


def walk(root: LocalRoot, prefix: str) -> Iterator[tuple[str, ObjectStat]]:
    """Every object below the directory ``prefix``, sorted by key; holds the names of one directory of each level.

    Raises StorageError for anything that cannot be read; what vanished meanwhile is left out.
    """
    try:
        found = _children(root, prefix)
    except PathNotFound:
        return
    # A directory sorts by the keys below it, which go on with a slash: ``a-b`` < ``a/c`` < ``a0``.
    for child in sorted(found, key=lambda child: f"{child.name}/" if child.is_prefix else child.name):
        key = f"{prefix}/{child.name}" if prefix else child.name
        if child.is_prefix:
            yield from walk(root, key)
        elif not child.is_link:
            try:
                with root.reading(key):
                    stat = stat_unlinked(f"{root.path}/{key}")
            except PathNotFound:
                continue
            if is_object(stat):
                yield key, object_stat(stat)


def children(root: LocalRoot, prefix: str) -> list[Child]:
    """The directories, objects and links directly below the directory ``prefix``, sorted. Raises StorageError."""
    try:
        return sorted(_children(root, prefix), key=lambda child: child.name)
    except PathNotFound:
        return []


def _children(root: LocalRoot, prefix: str) -> list[Child]:
    path = f"{root.path}/{prefix}" if prefix else root.path
    with root.listing(prefix):
        directory = open_unlinked(path, os.O_RDONLY | os.O_DIRECTORY)
    # That it is there is known now: whatever fails from here on is a failure, and no proof that anything is missing.
    with root.writing(prefix):
        try:
            with os.scandir(directory) as entries:
                found = [child for child in map(_child, entries) if child is not None]
        finally:
            os.close(directory)
    if not prefix:
        root.check_present()
        return [child for child in found if child.name not in OWN_SEGMENTS]
    return found


def _child(entry: os.DirEntry[str]) -> Child | None:
    """None for what is neither a directory nor an object nor a link."""
    if entry.name.startswith(TEMPORARY_SEGMENT):
        return None
    is_link, is_prefix = entry.is_symlink(), entry.is_dir(follow_symlinks=False)
    if not (is_link or is_prefix or entry.is_file(follow_symlinks=False)):
        return None
    return Child(entry.name, is_prefix=is_prefix, is_link=is_link)
