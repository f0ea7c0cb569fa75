"""One table: what is measured for it and on what, and the program that does so and prints it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks import report, wrk
from benchmarks.content import Source, source
from benchmarks.load import LoadError
from benchmarks.machine import Others, settle
from benchmarks.results import Results
from benchmarks.rows import Comparison, Row, select
from benchmarks.scale import QUICK, Bench, Scale
from benchmarks.servers import OURS, Running, Server, ServerError
from benchmarks.wire import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import FrameType

    from benchmarks.scenarios import Scenario

_FAILURES = (LoadError, OSError, ServerError, WireError, wrk.WrkError)


class Stage(Protocol):
    """Where servers are started, one after another."""

    def bench(self, scenario: Scenario, server: Server, scale: Scale, content: Source) -> AbstractContextManager[Bench]:
        """Start the server over empty storage as the scenario wants it; it is gone when the context ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """The stage of servers that keep their content in a directory."""

    directory: Path

    @contextlib.contextmanager
    def bench(self, scenario: Scenario, server: Server, scale: Scale, content: Source) -> Iterator[Bench]:  # noqa: ARG002
        """Start the server in a directory of its own."""
        with Running(server, self.directory) as running:
            yield Bench(running, scale, content)


@dataclasses.dataclass(frozen=True, slots=True)
class Suite:
    """A table: its rows, the scenarios that fill them, the servers and which are peers, and the machine."""

    program: str
    description: str
    rows: tuple[Row, ...]
    scenarios: tuple[Scenario, ...]
    servers: Mapping[str, Server]
    peers: tuple[str, ...]
    stage: Callable[[Path], AbstractContextManager[Stage]]
    scale: Scale = dataclasses.field(default_factory=Scale)
    quick: Scale = QUICK
    notes: tuple[str, ...] = ()


def _parser(suite: Suite) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=suite.program, description=suite.description)
    parser.add_argument("--rows", default="", help="only rows whose key contains one of these words, comma-separated")
    parser.add_argument("--servers", default="", help=f"only these of: {', '.join(suite.servers)}; comma-separated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median is taken")
    parser.add_argument("--quick", action="store_true", help="one round of little work: that it runs, not how fast")
    parser.add_argument("--blob", type=int, metavar="MIB", help="size of a large blob, where that is not 1 GiB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there as well")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="the disk to measure on")
    parser.add_argument(
        "--patience", type=float, metavar="SECONDS", help="wait so long, before each measurement, for a quiet machine"
    )
    return parser


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _servers(suite: Suite, names: list[str]) -> list[Server]:
    """Return the servers named, or all; an unknown name ends the program."""
    if unknown := set(names) - set(suite.servers):
        sys.exit(f"unknown server: {', '.join(sorted(unknown))}; known: {', '.join(suite.servers)}")
    return [server for name, server in suite.servers.items() if not names or name in names]


def _wanted(suite: Suite, rows: tuple[Row, ...], servers: list[Server]) -> list[tuple[Scenario, list[Server]]]:
    """Return the scenarios that fill a row, each with the servers that a row or the client's ceiling asks for."""
    found = []
    for scenario in suite.scenarios:
        asked = [row for row in rows if row.figure in scenario.figures]
        variants = {row.ours for row in asked}
        compared = any(isinstance(row, Comparison) for row in asked)
        ours = {server for server in scenario.servers if server.startswith(OURS)}
        names = variants | (set(scenario.servers) - ours if compared else set())
        chosen = [server for server in servers if server.name in names and server.name in scenario.servers]
        if asked and chosen:
            found.append((scenario, chosen))
    return found


def _measure(scenario: Scenario, server: Server, scale: Scale, content: Source, stage: Stage, results: Results) -> None:
    label = f"{scenario.run.__name__} on {server.name}"
    started = time.monotonic()
    try:
        with stage.bench(scenario, server, scale, content) as bench:
            settle(scale.patience_seconds)
            others = Others([bench.running.pid, *bench.beside])
            figures = scenario.run(bench)
            busy = others.share()
    except _FAILURES as error:
        results.faults.append(f"{label}: {error}")
        print(f"{label}: FAILED: {error}", file=sys.stderr, flush=True)
        return
    results.add(server.name, figures, busy)
    told = ", ".join(f"{figure} {value:,.1f}" for figure, value in figures.items())
    print(f"{label}: {told} ({time.monotonic() - started:.0f} s, others {busy:.0%})", file=sys.stderr, flush=True)


def _take_turns(
    scenario: Scenario,
    servers: list[Server],
    turn: int,
    scale: Scale,
    content: Source,
    stage: Stage,
    results: Results,
) -> None:
    """Run one round of the scenario, in each round with another server first."""
    if scenario.once and turn:
        return
    first = turn % len(servers)
    for server in servers[first:] + servers[:first]:
        _measure(scenario, server, scale, content, stage, results)


def _run(plan: list[tuple[Scenario, list[Server]]], rounds: int, scale: Scale, stage: Stage) -> Results:
    """Run the plan; the servers take turns in being first. A signal ends it with what was measured until then."""
    results = Results()
    try:
        with source(scale.blob_bytes) as content:
            for number in range(max((scenario.blobs for scenario, _ in plan), default=0)):
                content.blob(number)
            for turn in range(rounds):
                for scenario, servers in plan:
                    _take_turns(scenario, servers, turn, scale, content, stage, results)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the report is short: a second signal does not cut it
        results.faults.append("the rest: interrupted")
    return results


def _interrupt(number: int, _: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C, so that servers are stopped and what was measured is told."""
    raise KeyboardInterrupt(number)


def main(suite: Suite) -> int:
    """Return 0 when every row that was measured holds and nothing failed, else 1."""
    options = _parser(suite).parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    rows = select(_words(options.rows), suite.rows)
    if not rows:
        sys.exit(f"no row has {options.rows} in its key; keys: {', '.join(row.key for row in suite.rows)}")
    servers = _servers(suite, _words(options.servers))
    present = [server for server in servers if server.present]
    absent = [server.name for server in servers if not server.present and server.name in suite.peers]
    rounds = 1 if options.quick else options.rounds
    started = time.monotonic()
    scale = suite.quick if options.quick else suite.scale
    if options.patience is not None:
        scale = dataclasses.replace(scale, patience_seconds=options.patience)
    notes = suite.notes
    if options.blob is not None:
        scale = dataclasses.replace(scale, blob_bytes=options.blob << 20)
        notes = (*notes, f"What the table calls 1 GiB was {options.blob} MiB in this run.")
    with suite.stage(options.directory) as stage:
        results = _run(_wanted(suite, rows, present), rounds, scale, stage)
    command = " ".join([suite.program, *sys.argv[1:]])
    run = report.Run(
        rows,
        rounds,
        options.directory,
        command,
        absent,
        time.monotonic() - started,
        suite.servers,
        suite.peers,
        notes,
    )
    print(report.markdown(run, results))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report.document(run, results), indent=1) + "\n", encoding="utf-8")
    return 1 if results.faults or any(results.holds(row) is False for row in rows) else 0
