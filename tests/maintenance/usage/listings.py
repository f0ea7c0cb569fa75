"""What storage has, without the registry: the inodes of a disk as ``du`` counts them, or the listing of a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.registry_world import World


def on_storage(world: World, *names: str) -> int:
    """The bytes of the blobs of these repositories, with their trash; of all that storage has without names."""
    if world.kind == "local":
        roots = [each for name in names for each in (world.root / name, world.root / ".trash" / name)]
        return sum(_inodes(roots or [world.root]).values())
    assert not names, "repositories share the objects of a bucket"
    return sum(stat.size for _, stat in world.driver().list("storage/blobs"))


def freed_by(world: World, *names: str) -> int:
    """The bytes that would go with the directories of these repositories, and their trash."""
    roots = [each for name in names for each in (world.root / name, world.root / ".trash" / name)]
    left = _inodes(
        [path for path in _files([world.root.parent]) if not any(path.is_relative_to(each) for each in roots)]
    )
    return sum(size for inode, size in _inodes(roots).items() if inode not in left)


def _inodes(roots: list[Path]) -> dict[int, int]:
    """The sizes of the inodes of blobs."""
    stats = (path.stat() for path in _files(roots) if "/blobs/" in str(path))
    return {found.st_ino: found.st_size for found in stats}


def _files(roots: list[Path]) -> list[Path]:
    return [path for root in roots for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file()]
