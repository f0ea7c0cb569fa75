"""*Freshness*: whether what was read of a repository still holds, asked for each answer from memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Freshness(Protocol):
    """Asks the database for the versions of repositories. For the event loop's thread alone."""

    def ask(self, repository: str, version: int, callback: Callable[[bool], object]) -> None:
        """Call ``callback`` with whether the repository has this version, by a look that begins after this call.

        False if there is no such repository, or the database is lost.
        """
        ...

    def close(self) -> None:
        """Answer False to all questions, and free the connection. May be called again."""
        ...


class Question(NamedTuple):
    """A question that waits for an answer."""

    repository: str
    version: int
    callback: Callable[[bool], object]


def answer(questions: Iterable[Question], versions: Mapping[str, int]) -> None:
    """Answer all questions; if a callback raises, the remaining ones are called in the next turn of the event loop."""
    left = iter(questions)
    try:
        for repository, version, callback in left:
            callback(versions.get(repository) == version)
    finally:
        if rest := list(left):
            asyncio.get_running_loop().call_soon(answer, rest, versions)
