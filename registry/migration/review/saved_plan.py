"""A plan that was kept, read again: what the bucket was like when it was reviewed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import orjson

from registry.config_file import ConfigError, ConfigProblem
from registry.migration.review.plan_file import FORMAT, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """What a plan says of the bucket that it was made of."""

    layout: str | None
    driver: str
    bucket: str
    root: str
    repositories: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By name: the fingerprint, and the signature of the index."""
    shards: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that ``Plan.write`` made. Raises ConfigError, where it is none or is not whole."""
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


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """All but the last one, which says that they are whole. Raises OSError, ValueError, KeyError."""
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
