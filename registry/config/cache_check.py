"""*Cache check*: mistakes in the cache section that only this machine, or another section, shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from registry.config.file import ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.settings import Settings


def check_cache(settings: Settings) -> list[ConfigProblem]:
    """Say why the cache cannot be used here; nothing is made."""
    cache = settings.cache
    directories = {
        f"cache.{name}": path
        for name, path in (
            ("metadata_directory", cache.metadata_directory),
            ("blob_directory", cache.blob_directory),
        )
        if path is not None
    }
    problems = [
        ConfigProblem(key, reason, "") for key, path in directories.items() for reason in _reasons(settings, path)
    ]
    if len(directories) == 2 and not problems:  # noqa: PLR2004 - both
        first, second = directories.values()
        if _is_within(first, second) or _is_within(second, first):
            message = f"{second} and cache.metadata_directory lie in each other; each counts its own files"
            problems.append(ConfigProblem("cache.blob_directory", message, ""))
    if cache.write == "behind":
        message = "behind is not in this release: a push is answered when the bucket has it; set it to through"
        problems.append(ConfigProblem("cache.write", message, ""))
    return problems


def cache_without_effect(settings: Settings) -> list[ConfigProblem]:
    """Keys of the section that do nothing here."""
    cache = settings.cache
    unused = "has no effect while neither cache.blob_directory nor cache.metadata_directory is set"
    found = [] if cache.is_on or not cache.log_requests else [ConfigProblem("cache.log_requests", unused, "")]
    if cache.write == "through":
        for name, is_set in (("durable", cache.durable), ("max_tasks", bool(cache.max_tasks))):
            if is_set:
                found.append(ConfigProblem(f"cache.{name}", "has no effect while cache.write is through", ""))
    return found


def _reasons(settings: Settings, path: Path) -> Iterator[str]:
    storage = settings.storage
    if storage.driver == "local":
        yield (
            "has no use while storage.driver is local: its blobs are files of this machine already, and a copy of them "
            "takes room and makes nothing faster; remove it"
        )
        return
    if settings.database.url is None and _is_within(path, storage.root_directory):
        yield (
            f"{path} lies in storage.root_directory, where the database is: what is evicted and counted there must be "
            "files of the cache alone; choose another directory"
        )
        return
    existing = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))  # noqa: PTH110 - Path.exists raises where a parent may not be entered
    if not existing.is_dir():
        yield f"{existing} is not a directory"
    elif not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        yield f"{existing} cannot be written by this user; change its owner"
    elif existing == path and any(_is_foreign(name) for name in (each.name for each in path.iterdir())):
        yield f"{path} holds files that are not of a cache; choose an empty directory"


def _is_foreign(name: str) -> bool:
    """Whether a name at the top of the directory is none that a cache makes; ``lost+found`` is of the file system."""
    is_shard = len(name) == 2 and all(letter in "0123456789abcdef" for letter in name)  # noqa: PLR2004 - digits of a digest
    return not is_shard and not name.startswith(".") and name != "lost+found"


def _is_within(path: Path, other: Path) -> bool:
    inner, outer = (Path(os.path.realpath(each)) for each in (path, other))
    return inner == outer or outer in inner.parents
