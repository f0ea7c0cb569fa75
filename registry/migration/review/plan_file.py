"""The result of a review: a value, and a file of JSON lines whose last line says that it is whole."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from registry.config_file import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry.migration.report import Note, Problem
    from registry.migration.review.counts import Counts, Leftover, RepositoryLine, ShardLine
    from registry.migration.review.estimate import Estimate, Rate

VERSION: Final = 1
FORMAT: Final = "stowage-migration-plan"
"""What a header begins with, so that a file can be told from all others."""
_MAX_BEGINNING: Final = 256


@dataclass(slots=True)
class Plan:
    """What a review found. Making it changed nothing."""

    layout: str | None
    """``per-repository``, ``distribution``; None where there is nothing of another registry."""
    prefixes: tuple[str, ...]
    driver: str
    bucket: str
    root: str
    verify: str
    """``sizes`` or ``full``."""
    made: str
    """When the review ended, RFC 3339 in UTC."""
    listed: int
    """Objects below the root, whoever wrote them."""
    counts: Counts
    stays: list[Leftover]
    estimate: Estimate
    rate: Rate
    extra_bytes: int
    """Of the copies that are there beside the originals between consolidate and finalize."""
    extra_price: float
    """Of these, for a month."""
    freed_bytes: int
    """Of the originals that finalize deletes."""
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Sorted."""
    repositories: list[RepositoryLine] = field(default_factory=list)
    shards: list[ShardLine] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints: all but the fingerprints."""
        found = self._header() | {"problems": [asdict(problem) for problem in self.problems]}
        return {name: value for name, value in found.items() if name != "format"}

    def write(self, path: Path) -> None:
        """Make the file, or replace the plan that it was: whole or not at all (I8). Raises OSError."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                for line in self._lines():
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _header(self) -> dict[str, Any]:
        document: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for name in self.__slots__:
            if name not in {"problems", "repositories", "shards"}:
                value: Any = getattr(self, name)
                document[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        document["notes"] = [asdict(note) for note in self.notes]
        document["stays"] = [asdict(stay) for stay in self.stays]
        return document

    def _lines(self) -> Iterator[bytes]:
        hasher, count = hashlib.sha256(), 0
        for value in self._values():
            line = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
            hasher.update(line)
            count += 1
            yield line
        yield orjson.dumps({"end": count, "sha256": hasher.hexdigest()}, option=orjson.OPT_APPEND_NEWLINE)

    def _values(self) -> Iterator[dict[str, Any]]:
        yield self._header()
        yield from map(asdict, self.repositories)
        yield from map(asdict, self.shards)
        for problem in self.problems:
            yield problem.document()


def check_target(path: Path) -> None:
    """Whether a plan may be written there: where nothing is, or over an older plan. Raises ConfigError.

    Found before anything is listed, so that nobody waits an hour for it. A plan that is made each day replaces
    yesterday's; what is not a plan was meant for something else.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(_MAX_BEGINNING)
    except FileNotFoundError:
        if path.parent.is_dir() and os.access(path.parent, os.W_OK):
            return
        raise ConfigError(
            [ConfigProblem("--plan", f"no file can be made in {path.parent}; make that directory", "")]
        ) from None
    except OSError as error:
        raise ConfigError([ConfigProblem("--plan", f"{path} cannot be read: {error.strerror}", "")]) from None
    if not beginning.startswith(b'{"format":"%s"' % FORMAT.encode()):
        message = f"{path} is there and is no plan of this command; name another file, or remove it"
        raise ConfigError([ConfigProblem("--plan", message, "")])
