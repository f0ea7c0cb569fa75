"""Plan file: the result of a review, as a value and as JSON lines whose last line says that the file is whole."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from registry.config.file import ConfigError, ConfigProblem
from registry.migration.source.bucket import bucket_of, root_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry.config.settings import Settings
    from registry.migration.report import Note, Problem
    from registry.migration.review.counts import Counter, Counts, Leftover, RepositoryLine, ShardLine
    from registry.migration.review.estimate import Estimate, Rate

VERSION: Final = 1
FORMAT: Final = "stowage-migration-plan"
"""What a header begins with, so that a plan can be told from other files."""
_MAX_BEGINNING: Final = 256


@dataclass(slots=True)
class Plan:
    """What a review found."""

    layout: str | None
    """``per-repository``, ``distribution``; None if there is nothing of another registry."""
    prefixes: tuple[str, ...]
    driver: str
    bucket: str
    root: str
    verify: str
    """``sizes`` or ``full``."""
    made: str
    """When the review ended, RFC 3339 in UTC."""
    listed: int
    """All objects below the root."""
    counts: Counts
    stays: list[Leftover]
    estimate: Estimate
    rate: Rate
    extra_bytes: int
    """The bytes of the copies that are there beside the source objects between consolidate and finalize."""
    extra_price: float
    """Their price for a month."""
    freed_bytes: int
    """The bytes of the source objects that finalize deletes."""
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


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """What a plan file says about the bucket as it was reviewed."""

    layout: str | None
    driver: str
    bucket: str
    root: str
    repositories: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By name: the fingerprint, and the etag of the index."""
    shards: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that ``Plan.write`` made. Raises ConfigError if it is no such file or is not whole."""
        try:
            lines = list(_lines(path))
            header = lines[0]
            found = cls(header["layout"], header["driver"], header["bucket"], header["root"])
            for line in lines[1:]:
                if "repository" in line and "problem" not in line:
                    found.repositories[line["repository"]] = (line["fingerprint"], line["index"])
                elif "shard" in line:
                    found.shards[line["shard"]] = line["fingerprint"]
        except OSError as error:
            raise ConfigError([ConfigProblem("--plan", f"{path} cannot be read: {error.strerror}", "")]) from None
        except (ValueError, KeyError, IndexError, TypeError) as error:
            message = f"{path} is no whole plan of this command ({error}); make it again with --dry-run"
            raise ConfigError([ConfigProblem("--plan", message, "")]) from None
        return found

    def differences(self, settings: Settings, driver: str, layout: str, counter: Counter) -> Iterator[str]:
        """What is not as it was reviewed, each for a person; nothing if the plan covers the bucket.

        Objects of ours are covered, and so are uploads in progress in the source registry. An index that both share is
        compared as the source registry had it when it was adopted.
        """
        here = (layout, driver, bucket_of(settings), root_of(settings))
        planned = (self.layout, self.driver, self.bucket, self.root)
        if here != planned:
            yield f"the plan is of {_where(planned)}, this is {_where(here)}"
            return
        left = dict(self.repositories)
        for line in counter.repositories():
            before = left.pop(line.repository, None)
            if before is None:
                yield f"{line.repository}: not in the plan"
            elif before != (line.fingerprint, line.index):
                yield f"{line.repository}: changed since"
        yield from (f"{name}: gone since" for name in left)
        now = {line.shard: line.fingerprint for line in counter.shards()}
        for shard in sorted({*now, *self.shards}):
            if now.get(shard) != self.shards.get(shard):
                yield f"blobs {shard.replace('-', ':')}...: others than in the plan"


def _where(values: tuple[str | None, ...]) -> str:
    layout, driver, bucket, root = values
    return f"a {layout} layout in {driver} bucket {bucket or '-'} below {root or '/'}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """All lines but the last one, which says that they are whole. Raises OSError, ValueError, KeyError."""
    hasher, count, before = hashlib.sha256(), 0, b""
    with path.open("rb") as file:
        for line in file:
            if before:
                hasher.update(before)
                document = orjson.loads(before)
                if count == 0 and (document["format"], document["version"]) != (FORMAT, VERSION):
                    raise ValueError("another format or version")
                count += 1
                yield document
            before = line
    end = orjson.loads(before)
    if not before.endswith(b"\n") or (end["end"], end["sha256"]) != (count, hasher.hexdigest()):
        raise ValueError("it is cut off, or was changed")


def check_target(path: Path) -> None:
    """Check that a plan can be written there: to a new file, or over an older plan. Raises ConfigError.

    This is called before the bucket is listed, so that an operator learns at once. A new plan replaces an older one;
    any other file is kept.
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
