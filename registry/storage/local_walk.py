"""What lies below a prefix of a local store, in the order of the keys."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from registry.storage.driver import Child
from registry.storage.errors import PathNotFound
from registry.storage.keys import OWN_SEGMENTS, TEMPORARY_SEGMENT
from registry.storage.local_root import is_object, object_stat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.driver import ObjectStat
    from registry.storage.local_root import LocalRoot


def walk(
    root: LocalRoot, prefix: str, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, ObjectStat]]:
    """Every object below the directory ``prefix``, sorted by key; holds the names of one directory of each level.

    Directories behind symbolic links are entered, unless they are ``above`` (device and inode) themselves. Raises
    StorageError for anything that cannot be read; what vanished meanwhile is left out.
    """
    try:
        identity, names = _names(root, prefix)
    except PathNotFound:
        return
    if identity in above:
        return
    # A directory sorts by the keys below it, which go on with a slash: ``a-b`` < ``a/c`` < ``a0``.
    for name in names:
        key = f"{prefix}/{name}" if prefix else name
        if name.endswith("/"):
            yield from walk(root, key[:-1], above | {identity})
            continue
        try:
            found = os.lstat(f"{root.path}/{key}")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise root.read_error(key, error) from error
        if is_object(found):
            yield key, object_stat(found)


def children(root: LocalRoot, prefix: str) -> list[Child]:
    """The directories and objects directly below the directory ``prefix``, sorted. Raises StorageError."""
    try:
        _, names = _names(root, prefix)
    except PathNotFound:
        return []
    found = [Child(name.rstrip("/"), is_prefix=name.endswith("/")) for name in names]
    return sorted(found, key=lambda child: child.name)


def _names(root: LocalRoot, prefix: str) -> tuple[tuple[int, int], list[str]]:
    """Device and inode of a directory, and the names of its files and, with a slash, directories, sorted as keys."""
    path = f"{root.path}/{prefix}" if prefix else root.path
    with root.reading(prefix):
        found = os.stat(path)
        entries = os.scandir(path)
    # That it is there is known now: whatever fails from here on is a failure, and no proof that anything is missing.
    with entries, root.writing(prefix):
        names = sorted(name for name in map(_name, entries) if name is not None)
    if not prefix:
        root.check_present()
        names = [name for name in names if name.rstrip("/") not in OWN_SEGMENTS]
    return (found.st_dev, found.st_ino), names


def _name(entry: os.DirEntry[str]) -> str | None:
    """The name of an object; with a slash, of a directory; None for what is neither."""
    if entry.name.startswith(TEMPORARY_SEGMENT):
        return None
    try:
        if entry.is_dir():
            return f"{entry.name}/"
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symbolic link that leads to itself
            return None
        raise
    return entry.name if entry.is_file(follow_symlinks=False) else None
