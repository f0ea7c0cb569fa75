"""The arithmetic of the table: medians, ratios, targets, and what the report says of what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.measure import Series, percentile
from benchmarks.report import Run, document, markdown
from benchmarks.results import Results
from benchmarks.rows import ROWS, Comparison, Limit, Ratio, Row, select
from benchmarks.s3.rows import S3_ROWS
from benchmarks.s3.scenarios import S3_SCENARIOS
from benchmarks.s3.servers import S3_SERVERS
from benchmarks.scenarios import SCENARIOS, Scenario
from benchmarks.servers import ANGOS, DISTRIBUTION, OURS, PEERS, SERVERS, ZOT

READS = Comparison("reads", "reads", "/s", "reads", (Ratio(0.8), Ratio(2.5, (DISTRIBUTION, ZOT))), Ratio(1.0))
MEMORY = Limit("memory", "memory", "MiB", "memory", 200.0)


def _results(**rates: float) -> Results:
    results = Results()
    for server, rate in rates.items():
        results.add(server, {"reads": rate}, 0.0)
    return results


def test_a_series_is_its_median_and_noisy_when_its_rounds_differ() -> None:
    steady, wild = Series([100, 101, 99], [0.0] * 3), Series([100, 160, 99], [0.0] * 3)
    assert (steady.median, steady.noisy) == (100, False)
    assert (wild.median, wild.noisy) == (100, True)


def test_a_series_is_noisy_when_others_used_the_machine() -> None:
    assert Series([100, 100, 100], [0.0, 0.4, 0.0]).noisy


@pytest.mark.parametrize(("share", "expected"), [(0.5, 51), (0.99, 100), (1.0, 100)])
def test_a_percentile_of_one_to_a_hundred(share: float, expected: int) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_a_row_is_compared_with_the_best_of_the_peers_that_each_target_names() -> None:
    results = _results(ours=250.0, angos=300.0, distribution=100.0, zot=20.0)
    assert results.best(READS, PEERS) == (ANGOS, 300.0)
    assert [results.ratio(READS, target) for target in READS.least] == [pytest.approx(250 / 300), 2.5]
    assert results.holds(READS) is True


def test_one_target_missed_is_a_row_missed() -> None:
    assert _results(ours=240.0, angos=300.0, distribution=100.0).holds(READS) is False
    assert _results(ours=260.0, angos=400.0, distribution=100.0).holds(READS) is False


def test_nothing_is_claimed_where_one_side_was_not_measured() -> None:
    assert _results(ours=240.0).holds(READS) is None
    assert _results(angos=240.0).holds(READS) is None


@pytest.mark.parametrize(("mebibytes", "holds"), [(200.0, True), (200.1, False)])
def test_a_limit_is_what_may_be_reached_and_not_passed(mebibytes: float, holds: bool) -> None:
    results = Results()
    results.add(OURS, {"memory": mebibytes}, 0.0)
    assert results.holds(MEMORY) is holds


@pytest.mark.parametrize(("rows", "scenarios"), [(ROWS, SCENARIOS), (S3_ROWS, S3_SCENARIOS)])
def test_every_row_is_filled_by_exactly_one_scenario_that_runs_on_its_servers(
    rows: tuple[Row, ...], scenarios: tuple[Scenario, ...]
) -> None:
    for row in rows:
        (scenario,) = [scenario for scenario in scenarios if row.figure in scenario.figures]
        assert row.ours in scenario.servers
        if isinstance(row, Comparison):
            assert set(row.peers) <= set(scenario.servers)


def test_every_scenario_names_known_servers() -> None:
    assert {server for scenario in SCENARIOS for server in scenario.servers} <= set(SERVERS)
    assert {server for scenario in S3_SCENARIOS for server in scenario.servers} == set(S3_SERVERS)


def test_where_fewer_are_better_the_best_peer_has_the_fewest() -> None:
    row = Comparison("calls", "calls", "calls", "reads", (Ratio(2.0),), None, fewer=True)
    results = _results(ours=5.0, angos=66.0, distribution=20.0)
    assert results.best(row, PEERS) == (DISTRIBUTION, 20.0)
    assert results.ratio(row, Ratio(2.0)) == 4.0
    assert results.holds(row) is True


def test_rows_are_selected_by_a_part_of_their_key() -> None:
    assert [row.key for row in select(["manifest", "tags-list"])] == ["manifest-tag", "manifest-digest", "tags-list"]
    assert select([]) == ROWS


def test_the_report_names_what_was_missed_left_out_and_not_measured() -> None:
    results = _results(ours=240.0, angos=1300.0, distribution=100.0)
    results.faults.append("reads on zot: it fell over")
    run = Run((READS,), 3, Path("/"), "python -m benchmarks", ["docker-registry"], 60.0)
    text = markdown(run, results)
    (line,) = [line for line in text.splitlines() if line.startswith("| reads, per second")]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "reads, per second",
        "240",
        "-",
        "100",
        "-",
        "1,300",
        "angos",
        "0.18x; 2.40x",
        "0.8x; 2.5x of distribution, zot",
        "1x",
        "**no**",
    ]
    assert "docker-registry: absent on this machine, left out" in text
    assert "not measured: reads on zot: it fell over" in text
    assert document(run, results)["absent"] == ["docker-registry"]
