"""helm: charts are pushed to and pulled from oci:// references, `+` in versions included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("helm")]
PLAIN = "--plain-http"


@pytest.fixture
def helm(new_client: Callable[[str], Client]) -> Client:
    client = new_client("helm")
    client.run("create", "chart")
    return client


def package(helm: Client, version: str) -> Path:
    """Package the chart under a version and return the archive."""
    helm.run("package", "chart", f"--version={version}")
    return helm.home / f"chart-{version}.tgz"


@pytest.mark.parametrize(("version", "tag"), [("1.2.3", "1.2.3"), ("2.0.0-rc.1+build.7", "2.0.0-rc.1_build.7")])
def test_a_chart_comes_back_byte_for_byte(
    helm: Client, new_client: Callable[[str], Client], wire: Wire, version: str, tag: str
) -> None:
    archive = package(helm, version)
    charts = f"oci://{wire.address}/helm/{version[0]}"
    helm.run("push", archive, charts, PLAIN)
    repository = f"helm/{version[0]}/chart"
    assert wire.tags(repository) == [tag]
    manifest = wire.manifest(repository, tag).json()
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"
    assert len(wire.content(repository, tag)) == 3

    clean = new_client("helm")
    clean.run("pull", f"{charts}/chart", f"--version={version}", PLAIN)
    assert (clean.home / archive.name).read_bytes() == archive.read_bytes()
    assert f"version: {version}" in clean.run("show", "chart", f"{charts}/chart", f"--version={version}", PLAIN)
    assert "kind: Deployment" in clean.run("template", f"{charts}/chart", f"--version={version}", PLAIN)


@pytest.mark.local_storage("the kind of store makes no difference")
def test_the_newest_version_in_a_range_is_found_by_its_tags(
    helm: Client, new_client: Callable[[str], Client], wire: Wire
) -> None:
    charts = f"oci://{wire.address}/helm/many"
    for version in ("1.0.0", "1.1.0", "1.10.0", "2.0.0"):
        helm.run("push", package(helm, version), charts, PLAIN)
    clean = new_client("helm")
    assert "version: 1.10.0" in clean.run("show", "chart", f"{charts}/chart", "--version=^1", PLAIN)
    assert "version: 2.0.0" in clean.run("show", "chart", f"{charts}/chart", PLAIN)
    clean.fails("pull", f"{charts}/chart", "--version=3.0.0", PLAIN, saying="not found")


@pytest.mark.local_storage("the kind of store makes no difference")
def test_a_chart_depends_on_a_pushed_chart(helm: Client, new_client: Callable[[str], Client], wire: Wire) -> None:
    charts = f"oci://{wire.address}/helm/needed"
    archive = package(helm, "1.0.0")
    helm.run("push", archive, charts, PLAIN)
    clean = new_client("helm")
    clean.run("create", "outer")
    with (clean.home / "outer/Chart.yaml").open("a", encoding="utf-8") as chart:
        chart.write(f"dependencies:\n- name: chart\n  version: 1.0.0\n  repository: {charts}\n")
    clean.run("dependency", "update", "outer", PLAIN)
    assert (clean.home / "outer/charts" / archive.name).read_bytes() == archive.read_bytes()
