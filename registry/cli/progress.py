"""Progress: a bar on stderr if that is a terminal, else nothing or lines in the log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from registry.migration.progress import OnProgress as OnPhase
    from registry.migration.progress import Progress as Phase

LOG_SECONDS = 10.0
"""Seconds between two lines of the log, if there is no terminal."""

OnProgress = Callable[[int, int], None]
"""Called with the number done and the number in all."""


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[OnProgress]:
    """A function to report progress to. ``quiet`` draws nothing."""
    if quiet or not sys.stderr.isatty():
        yield _LoggedCount(title).report
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    with _drawn(TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield report


@contextmanager
def named_bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """As ``progress_bar``, for work in several parts, each of which says its title."""
    if quiet or not sys.stderr.isatty():
        yield lambda _title, _done, _total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _drawn(*columns) as progress:
        task = progress.add_task("", total=None)

        def report(title: str, done: int, total: int) -> None:
            progress.update(task, description=title, completed=done, total=total)

        yield report


@contextmanager
def phases(*, quiet: bool) -> Iterator[OnPhase]:
    """A function to report several phases to: a bar for the one that runs, or a line in the log now and then."""
    if quiet or not sys.stderr.isatty():
        yield _Log()
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with _drawn(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=None, said="")
        shown = ""

        def report(phase: Phase) -> None:
            nonlocal shown
            if phase.phase != shown:
                shown = phase.phase
                progress.reset(task, description=shown.capitalize(), total=None)
            by_bytes = phase.of_bytes > 0
            progress.update(
                task,
                completed=phase.bytes if by_bytes else phase.objects,
                total=phase.of_bytes if by_bytes else phase.of,
                said=_said(phase),
            )

        yield report


@contextmanager
def _drawn(*columns: ProgressColumn) -> Iterator[Progress]:
    """A bar, removed at its end. Meanwhile the log has only warnings and errors, written above it."""
    from rich.console import Console
    from rich.progress import Progress

    from registry.observability.logs import only_warnings

    # While it is drawn sys.stderr is rich's own, which writes whole lines above the bar.
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, only_warnings(sys.stderr):
        yield progress


class _Log:
    """Logs the progress every LOG_SECONDS."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, phase: Phase) -> None:
        """See registry.migration.progress.OnProgress."""
        self._say("migration in progress", phase=phase.phase, progress=_said(phase))

    def _say(self, event: str, **fields: str) -> None:
        if time.monotonic() - self._last < LOG_SECONDS:
            return
        self._last = time.monotonic()
        import structlog

        structlog.get_logger(__name__).info(event, **fields)


class _LoggedCount(_Log):
    """As ``_Log``, of one phase that counts."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def report(self, done: int, total: int) -> None:
        """See OnProgress."""
        self._say(f"{self._title.lower()} in progress", progress=f"{done:,}/{total:,}")


def _said(phase: Phase) -> str:
    said = [f"{phase.objects:,}" if phase.of is None else f"{phase.objects:,}/{phase.of:,}"]
    if phase.of_bytes:
        said.append(f"{phase.bytes / (1 << 20):,.0f}/{phase.of_bytes / (1 << 20):,.0f} MiB")
    if phase.per_second:
        said.append(f"{phase.per_second:,.0f} objects/s")
    if phase.bytes_per_second:
        said.append(f"{phase.bytes_per_second / (1 << 20):,.1f} MiB/s")
    if phase.seconds_left is not None:
        said.append(f"{phase.seconds_left:,.0f} s left")
    return ", ".join(said)
