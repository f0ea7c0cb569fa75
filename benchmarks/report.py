"""Report: the table in Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.rows import Comparison, Limit, Ratio, Row
from benchmarks.servers import BEFORE, CEILING, PEERS, SERVERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Series
    from benchmarks.results import Results
    from benchmarks.servers import Server

_NONE = "-"
_VERDICTS = {True: "yes", False: "**no**", None: _NONE}


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What was asked for."""

    rows: Sequence[Row]
    rounds: int
    directory: Path
    command: str
    absent: Sequence[str]
    seconds: float
    servers: Mapping[str, Server] = dataclasses.field(default_factory=lambda: SERVERS)
    peers: Sequence[str] = PEERS
    notes: Sequence[str] = ()


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell(series: Series | None) -> str:
    if series is None:
        return _NONE
    return _number(series.median) + (" ~" if series.noisy else "")


def _names(target: Ratio, peers: Sequence[str]) -> str:
    left_out = set(peers) - set(target.peers) - {BEFORE}
    if not left_out:
        return ""
    return f" {target.peers[0]}" if len(target.peers) == 1 else " of " + ", ".join(target.peers)


def _target(target: Ratio | None, peers: Sequence[str]) -> str:
    return _NONE if target is None else f"{target.least:.3g}x{_names(target, peers)}"


def _comparison(row: Comparison, results: Results, peers: Sequence[str]) -> list[str]:
    best = results.best(row, row.peers)
    compared = dict.fromkeys(target.peers for target in (*row.least, *([row.want] if row.want else []))) or [row.peers]
    ratios = [results.ratio(row, Ratio(0, peers)) for peers in compared]
    return [
        f"{row.work}, {row.unit}" if row.unit != "/s" else f"{row.work}, per second",
        _cell(results.get(row.ours, row.figure)),
        *(_cell(results.get(peer, row.figure)) for peer in peers),
        _NONE if best is None else best[0],
        "; ".join(_NONE if ratio is None else f"{ratio:.2f}x" for ratio in ratios),
        "; ".join(_target(target, peers) for target in row.least) or _NONE,
        _target(row.want, peers),
    ]


def _limit(row: Limit, results: Results, peers: Sequence[str]) -> list[str]:
    bounds = [_NONE if bound is None else f"≤ {bound:g} {row.unit}" for bound in (row.most, row.want)]
    return [f"{row.work}, {row.unit}", _cell(results.get(row.ours, row.figure)), *[""] * (len(peers) + 2), *bounds]


def _cells(row: Row, results: Results, peers: Sequence[str]) -> list[str]:
    return _comparison(row, results, peers) if isinstance(row, Comparison) else _limit(row, results, peers)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(run: Run, results: Results) -> str:
    """Return the table; a figure with ``~`` is noisy."""
    header = ["work", "ours", *run.peers, "best peer", "ratio", "at least", "we want", "holds"]
    lines = [_line(header), _line(["---"] * len(header))]
    lines.extend(_line([*_cells(row, results, run.peers), _VERDICTS[results.holds(row)]]) for row in run.rows)
    return "\n".join(lines)


def machine(directory: Path) -> str:
    """Return processor, memory, kernel, file system and Python in one line."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), platform.machine()
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return (
        f"{model}, {os.cpu_count()} cores, {pages} GiB, Linux {platform.release()}, {_file_system(directory)}, "
        f"Python {platform.python_version()}"
    )


def _file_system(directory: Path) -> str:
    found = ("", "unknown file system")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, kind = line.split(" ")[:3]
        if directory.resolve().is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found[1]


def _ceiling(run: Run, results: Results) -> list[str]:
    lines = []
    for figure, unit in {row.figure: row.unit for row in run.rows}.items():
        if (series := results.get(CEILING, figure)) is not None:
            lines.append(f"{figure} {_number(series.median)}{'' if unit == '/s' else ' '}{unit}")
    return lines


def markdown(run: Run, results: Results) -> str:
    """Return the whole report."""
    parts = [table(run, results), ""]
    parts.append(f"`{run.command}`: medians of {run.rounds} rounds, {run.seconds / 60:.0f} minutes.")
    parts.append("`~`: the rounds differ by more than a quarter, or others used more than a seventh of the machine.")
    parts.append(f"Machine: {machine(run.directory)}.")
    parts.extend(run.notes)
    if ceiling := _ceiling(run, results):
        parts.append(f"The client against a server that throws everything away: {', '.join(ceiling)}.")
    parts.append("")
    measured = {server for server, _ in results.series}
    for name, server in run.servers.items():
        if name in measured:
            parts.append(f"- {name}: {server.describe()}; `{server.command_line()}`")
    parts.extend(f"- {name}: absent on this machine, left out" for name in run.absent)
    parts.extend(f"- not measured: {fault}" for fault in results.faults)
    return "\n".join(parts)


def document(run: Run, results: Results) -> dict[str, object]:
    """Return everything measured, for JSON."""
    return {
        "command": run.command,
        "rounds": run.rounds,
        "seconds": round(run.seconds, 1),
        "machine": machine(run.directory),
        "notes": list(run.notes),
        "python": sys.version,
        "absent": list(run.absent),
        "faults": results.faults,
        "rows": [_row_document(row, results) for row in run.rows],
        "series": [
            {"server": server, "figure": figure, "median": series.median, "noisy": series.noisy}
            | dataclasses.asdict(series)
            for (server, figure), series in results.series.items()
        ],
    }


def _row_document(row: Row, results: Results) -> dict[str, object]:
    series = results.get(row.ours, row.figure)
    found: dict[str, object] = {"key": row.key, "work": row.work, "unit": row.unit, "holds": results.holds(row)}
    found["ours"] = None if series is None else series.median
    if isinstance(row, Comparison):
        found["best"] = results.best(row, row.peers)
        found["ratios"] = [results.ratio(row, target) for target in row.least]
    return found
