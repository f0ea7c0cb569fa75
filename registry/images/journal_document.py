"""Reading a document of the journal of migrations: what is written in another way than ours is not guessed at."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import orjson

from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION: Final = 1
"""Of the formats; another one is not understood."""


class UnknownJournal(StorageError):
    """The journal is of a later release, or damaged: nothing may be done that could contradict it."""


@contextlib.contextmanager
def understanding(key: str) -> Iterator[None]:
    """For a block that reads what is at ``key``. Raises UnknownJournal for every value that it did not expect."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RegistryError) as error:
        raise UnknownJournal(key, f"is of a later release, or damaged: {error!r}") from error


def versioned(data: bytes) -> dict[str, Any]:
    """The document, which has a version that is understood. Raises ValueError, KeyError."""
    document: dict[str, Any] = orjson.loads(data)
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}")
    return document


def text(value: object) -> str:
    """A value that is text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r:.80}")  # noqa: TRY004 - one kind of error for a damaged document
    return value


def number(value: object) -> int:
    """A value that is a whole number. Raises ValueError."""
    if type(value) is not int:  # bool is a subclass of int
        raise ValueError(f"not a number: {value!r:.80}")
    return value


def flag(value: object) -> bool:
    """A value that is true or false. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"not a flag: {value!r:.80}")  # noqa: TRY004 - as above
    return value
