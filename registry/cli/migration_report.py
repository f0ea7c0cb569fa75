"""Migration report: the result of a review or a run, for a person.

Tests: ``tests/cli/test_migrate.py``.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from registry.migration.finalize.plan import Finalization
    from registry.migration.report import Problem, Report
    from registry.migration.review.estimate import PhaseCost
    from registry.migration.review.plan_file import Plan
    from registry.migration.review.requests import Requests
    from registry.migration.rollback.plan import RollbackPlan

SHOWN = 10
"""Problems of one kind that are listed; ``--json`` and ``--plan`` have all."""
_WIDTH = 200
_MOVING = (
    "The source was written to meanwhile, which the next pass takes; for the last one it has to be read-only, with "
    "its garbage collection off"
)
_KINDS = ("list", "head", "get", "put", "copy", "delete")
_STAYS = {
    "unreferenced": "blobs that no manifest names",
    "uploads": "uploads that were not finished",
    "left": "what these registries leave beside images",
    "not-taken": "indexes and links of repositories that are not taken",
    "unknown": "unknown objects",
}


def review_lines(plan: Plan, *, kept: Path | None) -> list[str]:
    """The plan, without the fields that only programs need."""
    where = f"{plan.driver} bucket {plan.bucket}, below {plan.root or '/'}"
    if plan.layout is None:
        return [f"{where}: nothing to migrate; what is there is Stowage's own"]
    lines = [f"{where}: layout {plan.layout}, {plan.listed:,} objects"]
    lines += _render(_contents(plan)) + _render(_phases(plan)) + _render(_rollback(plan))
    lines += _sentences(plan)
    lines += [f"note, {note.kind}: {note.count:,}: {note.detail}" for note in plan.notes]
    lines += _problems(plan.problems, "Everything else would be served", "--json and --plan have all")
    return [*lines, f"The plan is in {kept}."] if kept else lines


def _contents(plan: Plan) -> Table:
    counts = plan.counts
    table = _table("Content", "", "objects", "bytes")
    rows = [
        ("repositories", counts.repositories, None),
        ("tags", counts.tags, None),
        ("manifests, distinct", counts.manifests, counts.manifest_bytes),
        ("blobs, distinct", counts.blobs, counts.blob_bytes),
        ("duplicates, and what they waste", counts.duplicates, counts.duplicate_bytes),
        ("stubs of duplicates", counts.stubs, 0),
        *((f"stays: {_STAYS[stay.reason]}", stay.objects, stay.bytes) for stay in plan.stays),
    ]
    for name, objects, size in rows:
        table.add_row(name, f"{objects:,}", "" if size is None else f"{size:,}")
    return table


def _phases(plan: Plan) -> Table:
    estimate = plan.estimate
    table = _phase_table("Phases: requests, and what they cost")
    _add(table, "review (this one)", estimate.review)
    _add(table, "adopt, a pass", estimate.adopt)
    _add(table, "consolidate", estimate.consolidate)
    _add(table, "finalize", estimate.finalize)
    return table


def _rollback(plan: Plan) -> Table:
    rollback = plan.estimate.rollback
    table = _phase_table("Rollback, if nothing was pushed since")
    _add(table, "once adopted", rollback.adopted)
    _add(table, "once consolidated", rollback.consolidated)
    return table


def _sentences(plan: Plan) -> Iterator[str]:
    rollback = plan.estimate.rollback
    pushed = (("blob", rollback.pushed_blob), ("manifest", rollback.pushed_manifest), ("tag", rollback.pushed_tag))
    since = "; ".join(f"{name}: {_asked(requests)}" for name, requests in pushed)
    yield f"A rollback adds for each that was pushed since, in each repository, {since}. After finalize there is none."
    yield (
        f"While source objects and copies both exist: {plan.extra_bytes:,} bytes more, {plan.extra_price:,.2f} a month."
        f" Finalize frees {plan.freed_bytes:,} bytes."
    )
    rate = plan.rate
    if rate.requests_per_second is not None:
        hashed = (
            f"{rate.bytes_per_second / (1 << 20):,.1f} MiB/s"
            if rate.bytes_per_second
            else "not measured, so times are without the reading of blobs (--verify full measures it)"
        )
        yield f"Measured: {rate.requests_per_second:,.0f} requests/s beside listings; reading of blobs {hashed}."


def _asked(requests: Requests) -> str:
    return ", ".join(f"{getattr(requests, kind)} {kind.upper()}" for kind in _KINDS if getattr(requests, kind))


def report_lines(report: Report, changed: list[str]) -> list[str]:
    """The result of a run."""
    lines = [f"state: {report.state or 'none'}"]
    lines += [f"{name.replace('_', ' ')}: {count:,}" for name, count in report.counts.items()]
    lines += [f"note, {note.kind}: {note.count:,}: {note.detail}" for note in report.notes]
    lines += _problems(report.problems, "Everything else is served", "--json has all")
    return [*lines, *_named(_MOVING, changed)]


def rollback_lines(plan: RollbackPlan) -> list[str]:
    """The plan of a rollback."""
    lines = [
        f"state: {plan.state}",
        f"repositories that change: {plan.repositories:,}",
        f"copied inside the store: {plan.copied:,} blobs, {plan.copied_bytes:,} bytes",
        f"read and hashed first: {plan.hashed:,} blobs, {plan.hashed_bytes:,} bytes",
        f"indexes and links written: {plan.written:,}, links deleted: {plan.deleted:,}",
        f"requests: {_asked(plan.requests) or 'none'}; price {plan.price:,.4f}; time {_time(plan.seconds)}",
    ]
    lines += [f"stays: {stay.reason}: {stay.objects:,} objects, {stay.bytes:,} bytes" for stay in plan.stays]
    lines += _named("The source has changed since it was taken, which has to be taken first", plan.changed)
    losses = [f"{loss.repository} {loss.digest}: {loss.detail}" for loss in plan.losses]
    lines += _named("The source cannot have, and --accept-loss leaves out", losses)
    return [*lines, *_problems(plan.problems, "Everything else is given back", "--json has all")]


def finalize_lines(going: Finalization) -> list[str]:
    """The plan of a finalize."""
    lines = [f"deleted: {going.objects:,} objects, {going.bytes:,} bytes, {going.requests:,} requests"]
    until = going.waits_until(time.time())
    lines += [] if until is None else [f"not before {until}: clients may hold addresses of source objects"]
    stays = going.stays
    return lines + [f"stays: {s.reason}: {s.objects:,} objects, {s.bytes:,} bytes, as {s.example}" for s in stays]


def _named(title: str, names: list[str]) -> Iterator[str]:
    if names:
        yield f"{title} ({len(names):,}):"
        yield from (f"  {name}" for name in names[:SHOWN])
    if len(names) > SHOWN:
        yield f"  and {len(names) - SHOWN:,} more: --json has all"


def _problems(problems: list[Problem], rest: str, all_of_them: str) -> Iterator[str]:
    if not problems:
        yield "No problems."
        return
    kinds: dict[str, int] = {}
    for problem in problems:
        kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
    yield f"Problems: {len(problems):,}. {rest}; see docs/migration.md for each kind."
    for kind, count in kinds.items():
        yield f"{kind}: {count:,}"
        named = [problem for problem in problems if problem.kind == kind]
        for problem in named[:SHOWN]:
            words = (
                problem.repository,
                problem.key,
                "" if problem.digest.rpartition(":")[2] in problem.key else problem.digest,
            )
            yield f"  {' '.join(word for word in words if word)}: {problem.detail}"
        if count > SHOWN:
            yield f"  and {count - SHOWN:,} more: {all_of_them}"


def _phase_table(title: str) -> Table:
    return _table(title, "", *(kind.upper() for kind in _KINDS), "bytes read", "price", "time", "at --rate")


def _add(table: Table, name: str, phase: PhaseCost) -> None:
    numbers = (f"{getattr(phase.requests, kind):,}" for kind in _KINDS)
    table.add_row(
        name,
        *numbers,
        f"{phase.read_bytes:,}",
        f"{phase.price:,.4f}",
        _time(phase.seconds),
        _time(phase.seconds_at_rate),
    )


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def _render(table: Table) -> list[str]:
    """The lines of a table, without colours, so that they can be kept in a file."""
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=_WIDTH, color_system=None).print(table)
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]
