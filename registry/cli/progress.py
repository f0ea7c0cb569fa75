"""A progress bar on stderr where that is a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnProgress = Callable[[int, int | None, str], None]
"""Called with how many are done, how many there are (None while unknown), and the name of the last."""


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[OnProgress]:
    """A function to report progress to. ``quiet`` draws nothing."""
    if quiet or not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def report(done: int, total: int | None, name: str) -> None:
            progress.update(task, completed=done, total=total, description=name)

        yield report


def _ignore(_done: int, _total: int | None, _name: str) -> None:
    return
