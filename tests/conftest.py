"""What holds for every test: a PostgreSQL server, the ``tools`` marker, and that ``REQUIRE_TOOLS=1`` forbids skips."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.database.postgresql import Cluster
from tests.tools import require_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.terminal import TerminalReporter

_skipped: list[str] = []


def _strict() -> bool:
    return os.environ.get("REQUIRE_TOOLS") == "1"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL server for all tests; skips them where it is not installed."""
    running = Cluster()
    yield running
    running.remove()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("tools"):
        require_tools(*marker.args)


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skipped.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note_skip(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _strict() and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if _strict() and _skipped:
        terminalreporter.section("REQUIRE_TOOLS=1: a skip is a failure", red=True)
        for line in sorted(set(_skipped)):
            terminalreporter.line(line)
