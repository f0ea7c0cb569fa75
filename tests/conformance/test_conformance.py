"""The conformance program of the distribution specification, 1.1+dev, finds no fault and nothing missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance import program

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.servers import Registry

pytestmark = pytest.mark.conformance

IN_ANY_STORE = pytest.mark.local_storage("the kind of store makes no difference")
SPARSE = {"Sparse Manifests"}
APIS = 28
KINDS_OF_DATA = 24
LEAST = 980  # judged requests; the number depends a little on how uploads are answered


@pytest.fixture
def registry(backend: Backend, tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Registry]:
    """A fresh registry; the parameter overrides sections of its configuration."""
    with backend.registry(tmp_path / "registry", getattr(request, "param", None)) as server:
        yield server


def check(report: program.Report, disabled: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Print the totals; nothing failed or was skipped, and nothing but `disabled` was left out."""
    with capsys.disabled():
        sys.stdout.write(f"\nconformance: {report}\n")
    assert (report.failed, report.errors, report.skipped, report.disabled) == (0, 0, 0, 0), f"{report}\n{report.output}"
    assert {name: status for name, status in report.apis.items() if status != "Pass"} == {}
    assert {name for name, status in report.data.items() if status == "Disabled"} == disabled
    assert {name: status for name, status in report.data.items() if status not in ("Pass", "Disabled")} == {}
    assert len(report.apis) == APIS
    assert len(report.data) == KINDS_OF_DATA
    assert report.total >= LEAST


@pytest.mark.parametrize(
    "registry",
    [
        pytest.param({}, id="default configuration"),
        pytest.param({"http": {"workers": 2}}, id="two workers", marks=IN_ANY_STORE),
        pytest.param({"http": {"relative_locations": False}}, id="absolute locations", marks=IN_ANY_STORE),
    ],
    indirect=True,
)
def test_everything_but_sparse_manifests_passes(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(program.run(registry.address, tmp_path / "results"), SPARSE, capsys)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=IN_ANY_STORE), 2])
def test_everything_passes_where_missing_references_are_accepted(
    backend: Backend, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config: dict[str, dict[str, Any]] = {
        "http": {"workers": workers},
        "manifests": {"missing_blobs": "accept", "missing_manifests": "accept"},
    }
    with backend.registry(tmp_path / "registry", config) as server:
        report = program.run(server.address, tmp_path / "results", {"OCI_DATA_SPARSE": "true"})
    check(report, set(), capsys)


def test_a_second_run_on_the_same_storage_passes(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.run(registry.address, tmp_path / "first")
    registry.restart()
    check(program.run(registry.address, tmp_path / "second"), SPARSE, capsys)


@IN_ANY_STORE
@pytest.mark.parametrize("registry", [{"storage": {"delete": False}}], ids=["no deletion"], indirect=True)
def test_what_a_registry_does_not_do_is_counted_as_skipped(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check above can fail: a registry that refuses deletions still makes the program pass."""
    report = program.run(registry.address, tmp_path / "results")
    assert report.failed == 0, report.output
    assert report.skipped > 0
    with pytest.raises(AssertionError, match="skipped"):
        check(report, SPARSE, capsys)


@IN_ANY_STORE
@pytest.mark.parametrize("registry", [{}], ids=["default configuration"], indirect=True)
def test_what_the_configuration_refuses_is_counted_as_failed(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check above can fail: sparse manifests are refused unless the configuration accepts them."""
    report = program.run(registry.address, tmp_path / "results", {"OCI_DATA_SPARSE": "true"})
    assert report.failed + report.skipped > 0
    with pytest.raises(AssertionError, match="failed"):
        check(report, set(), capsys)
