"""The program as a whole, at its smallest scale."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from benchmarks.rows import ROWS
from benchmarks.s3.rows import S3_ROWS
from benchmarks.servers import CEILING, ONE_WORKER, OURS

ROOT = Path(__file__).parents[2]


def _run(*arguments: str, program: str = "benchmarks") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=350,
        check=False,
    )


@pytest.mark.stores
@pytest.mark.tools("wrk")
@pytest.mark.timeout(180)
def test_a_quick_run_measures_every_row_of_ours(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    run = _run("--quick", "--servers", f"{OURS},{ONE_WORKER}", "--json", str(result), "--directory", str(tmp_path))
    assert result.is_file(), run.stderr
    measured = json.loads(result.read_text(encoding="utf-8"))
    assert measured["faults"] == []
    expected = {row.key for row in ROWS if row.ours in {OURS, ONE_WORKER}}
    assert {row["key"] for row in measured["rows"] if row["ours"] is not None} == expected
    assert "| GET manifest by tag, per second |" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == [result.name]


@pytest.mark.stores
@pytest.mark.tools("wrk", "versitygw", "initdb", "pg_ctl", "postgres")
@pytest.mark.timeout(400)
def test_a_quick_run_over_s3_measures_every_row_of_ours_and_leaves_nothing() -> None:
    # Not below pytest's own directory, which lets no other user in: PostgreSQL runs as another user than root.
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o711)
        result = place / "results" / "s3.json"
        run = _run("--quick", "--servers", OURS, "--json", str(result), "--directory", name, program="benchmarks.s3")
        assert result.is_file(), run.stderr
        measured = json.loads(result.read_text(encoding="utf-8"))
        assert measured["faults"] == []
        expected = {row.key for row in S3_ROWS if row.ours == OURS}
        assert {row["key"] for row in measured["rows"] if row["ours"] is not None} == expected
        assert [path.name for path in place.iterdir()] == ["results"]


def test_an_unknown_server_is_named_with_those_that_are_known() -> None:
    run = _run("--servers", "artifactory")
    assert run.returncode != 0
    assert "unknown server: artifactory; known: ours" in run.stderr


def test_a_word_that_no_row_contains_is_an_error() -> None:
    run = _run("--rows", "lathe")
    assert run.returncode != 0
    assert "no row" in run.stderr


def test_a_run_that_is_stopped_reports_and_stops_its_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--servers", CEILING, "--rows", "images"]
    with subprocess.Popen(
        [*command, "--directory", str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("bench-*/log")) and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        told, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "not measured: the rest: interrupted" in told
    assert list(tmp_path.iterdir()) == []
