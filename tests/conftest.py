"""What holds for every test: the ``tools`` marker, ``--backend``, and that ``REQUIRE_TOOLS=1`` lets no skip pass.

``--backend`` says what the registries of the client and conformance tests run over (``tests/support/backends.py``).
Tests marked ``local_storage`` are not selected for other backends: only a directory has it, or the store is all one.
Those marked ``replicas_too`` run over one more, ``s3-postgresql``, since another server may make a difference to them.
"""

from __future__ import annotations

import gc
import logging
import os
from typing import TYPE_CHECKING

import pytest

from tests.support import server_clock
from tests.support.lent_databases import LentDatabases
from tests.support.postgresql import Cluster
from tests.support.rewriting import share_rewriting
from tests.support.tools import require_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _pytest.terminal import TerminalReporter

    from tests.support.backends import Backend

LOCAL = "local"
REPLICAS = "s3-postgresql"
OTHERS = (REPLICAS, "gcs-sqlite")
IN_OWN_FOLDER = ("clients", "conformance", "upgrade", "wheel")
"""Markers of tests that stand in the folder of that name: their targets of ``make`` collect no other."""

_skipped: list[str] = []

gc.disable()  # what a collection makes stays: to look for garbage in it is a third of its time


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    share_rewriting(config)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=(LOCAL, *OTHERS),
        default=LOCAL,
        help="what the registries of the client and conformance tests run over (default: local)",
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    name = config.getoption("--backend")
    return None if name == LOCAL else f"backend: {name}; tests marked {' or '.join(_left_out(name))} are not selected"


def _left_out(backend: str) -> tuple[str, ...]:
    """Markers of tests that are not selected for a backend."""
    return {LOCAL: (), REPLICAS: ("local_storage",)}.get(backend, ("local_storage", "replicas_too"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker in IN_OWN_FOLDER:
            if item.get_closest_marker(marker) and item.path.parent != config.rootpath / "tests" / marker:
                raise pytest.UsageError(f"{item.nodeid} is marked {marker}, and `make {marker}` would not find it")
    markers = _left_out(config.getoption("--backend"))
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in markers)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def log_handlers() -> Iterator[None]:
    """A command that a test calls in this process writes its log to a stream that ends with the test."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Makes the registries of this run; what they share is started with the first."""
    from tests.support.backends import BACKENDS

    made = BACKENDS[request.config.getoption("--backend")](tmp_path_factory.mktemp("backend"))
    yield made
    made.close()


def _strict() -> bool:
    return os.environ.get("REQUIRE_TOOLS") == "1"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One PostgreSQL server for all tests; skips them where it is not installed."""
    running = Cluster()
    yield running
    running.remove()


@pytest.fixture(scope="session")
def lent_databases(cluster: Cluster) -> LentDatabases:
    """Databases of that server that tests have one after the other."""
    return LentDatabases(cluster)


@pytest.fixture(scope="session")
def lent_databases_with_clock(cluster: Cluster) -> LentDatabases:
    """Likewise, for tests that set the time of the server."""
    return LentDatabases(cluster, server_clock.install)


@pytest.fixture
def new_database(lent_databases: LentDatabases) -> Iterator[Callable[[], str]]:
    """Gives the URL of a PostgreSQL database with the newest schema and no rows, for the length of a test."""
    with lent_databases.for_a_while() as lend:
        yield lend


@pytest.fixture
def new_database_with_clock(lent_databases_with_clock: LentDatabases) -> Iterator[Callable[[], str]]:
    """As ``new_database``, with a clock of ``tests/support/server_clock.py``."""
    with lent_databases_with_clock.for_a_while() as lend:
        yield lend


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
