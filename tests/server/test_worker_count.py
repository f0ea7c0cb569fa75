"""As many workers as the machine and its control groups grant, unless the configuration has a number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.config.sections import HttpSettings
from registry.server import worker_count as module
from registry.server.worker_count import MOST, usable_cores, worker_count


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may use sixteen cores, as far as the scheduler says."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(16)), raising=False)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def grouped(files: Path, lines: str, **bounds: str) -> Path:
    write(files / "proc/self/cgroup", lines)
    for name, text in bounds.items():
        write(files / "sys/fs/cgroup" / name.replace("__", "/").replace("DOT", "."), text)
    return files


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 2), (3, 3), (MOST, MOST), (64, MOST)])
def test_there_is_a_worker_for_each_core_up_to_a_bound(
    cores: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    assert worker_count(HttpSettings(), conditional_writes=True) == workers


def test_a_configured_number_counts() -> None:
    assert worker_count(HttpSettings(workers=9), conditional_writes=True) == 9


def test_a_store_that_ignores_conditions_has_one_worker() -> None:
    assert worker_count(HttpSettings(), conditional_writes=False) == 1


def test_all_cores_that_the_scheduler_grants_are_used_without_control_groups(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 16


@pytest.mark.parametrize(
    ("bound", "cores"),
    [
        ("max 100000", 16),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9000000 100000", 16),
        ("", 16),
        ("many 100000", 16),
        ("100000 0", 16),
    ],
)
def test_a_control_group_bounds_them(bound: str, cores: int, tmp_path: Path) -> None:
    files = grouped(tmp_path, "0::/a/b\n", a__b__cpuDOTmax=bound)
    assert usable_cores(files) == cores


def test_a_group_above_bounds_them_too(tmp_path: Path) -> None:
    files = grouped(tmp_path, "0::/a/b\n", a__b__cpuDOTmax="800000 100000", a__cpuDOTmax="300000 100000")
    assert usable_cores(files) == 3


def test_in_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    assert usable_cores(grouped(tmp_path, "0::/\n", cpuDOTmax="100000 100000")) == 1


@pytest.mark.parametrize(("quota", "cores"), [("-1", 16), ("250000", 3)])
def test_the_first_version_of_control_groups_has_two_files(quota: str, cores: int, tmp_path: Path) -> None:
    files = grouped(
        tmp_path,
        "9:memory:/a\n4:cpu,cpuacct:/a\n",
        cpu__a__cpuDOTcfs_quota_us=quota,
        cpu__a__cpuDOTcfs_period_us="100000\n",
    )
    assert usable_cores(files) == cores


def test_this_machine_has_cores() -> None:
    assert usable_cores() >= 1
