"""Progress of several phases: a bar where there is a terminal, a line in the log now and then elsewhere."""

from __future__ import annotations

import io
import logging

import pytest
from structlog.testing import capture_logs

from registry.cli.progress import LOG_SECONDS, phases, progress_bar
from registry.migration.progress import Progress


class Terminal(io.StringIO):
    """A standard error that draws."""

    def isatty(self) -> bool:
        return True


def test_each_phase_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with phases(quiet=False) as report:
        report(Progress("listing", 1000))
        report(Progress("manifests", 5, 20))
        report(Progress("hashing", 7, 9, 3 << 20, 5 << 20))
    assert "Hashing" in terminal.getvalue()
    assert "7/9, 3/5 MiB" in terminal.getvalue()


def test_the_log_does_not_tear_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    handler = logging.StreamHandler(terminal)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    monkeypatch.setattr(root, "level", logging.INFO)
    with progress_bar("Rebuilding", quiet=False) as report:
        report(1, 2)
        logging.getLogger("registry").info("a repository is as it should be")
        logging.getLogger("registry").warning("a manifest was left out")
    assert "Rebuilding" in terminal.getvalue()
    assert "as it should be" not in terminal.getvalue()
    before, _, _ = terminal.getvalue().partition("WARNING a manifest was left out\n")
    assert before.endswith(("\x1b[2K", "\r"))  # the line of the bar was cleared, and is drawn anew below
    assert handler.stream is terminal
    assert handler.level == logging.NOTSET


def test_without_a_terminal_the_log_shows_the_progress_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with capture_logs() as logged, phases(quiet=False) as report:
        report(Progress("listing", 1000))
        now += LOG_SECONDS
        report(Progress("listing", 12_000))
        report(Progress("listing", 13_000))
    assert [(line["phase"], line["progress"]) for line in logged] == [("listing", "12,000")]


def test_with_json_only_the_document_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with phases(quiet=True) as report:
        report(Progress("listing", 1000))
    assert terminal.getvalue() == ""


def test_a_line_has_the_known_bytes_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with capture_logs() as logged, phases(quiet=False) as report:
        now += LOG_SECONDS
        report(Progress("copying", 1200, 4000, 3 << 20, 10 << 20, 250.0, 1 << 20, 7.4))
    assert [line["progress"] for line in logged] == ["1,200/4,000, 3/10 MiB, 250 objects/s, 1.0 MiB/s, 7 s left"]
