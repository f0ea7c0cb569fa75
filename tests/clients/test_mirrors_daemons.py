"""Mirrors of docker.io through docker, containerd and podman, set up as docs/mirrors.md says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.clients.daemon import DockerDaemon
from tests.clients.layouts import content, layout_content, tagged
from tests.clients.test_podman import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.layouts import Layout
    from tests.clients.mirrors import Mirrors

pytestmark = [pytest.mark.clients, pytest.mark.tools("skopeo", "registry", "zot", "nginx")]


@pytest.mark.tools("docker", "dockerd")
def test_docker_pulls_by_its_own_names(
    mirrors: Mirrors,
    new_client: Callable[[str], Client],
    layout: Layout,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    hub = mirrors.upstreams["hub"]
    hub.push(new_client("skopeo"), layout, "multi", "library/docker-app")
    root, settings = tagged(layout.directory, "multi")["digest"], tmp_path / "settings"
    settings.mkdir()
    (settings / "daemon.json").write_text(
        json.dumps({"registry-mirrors": [f"http://localhost:{mirrors.registry.port}"]}), encoding="utf-8"
    )
    with DockerDaemon(tmp_path_factory.mktemp("d"), settings=settings) as daemon:
        docker = daemon.client(tmp_path / "docker")
        docker.run("pull", "docker-app:1")
        first = docker.json("image", "inspect", "docker-app:1")
        assert first[0]["RepoDigests"] == [f"docker-app@{root}"]
        with mirrors.away("hub"):
            for reference in ("docker-app:1", f"docker-app@{root}"):
                daemon.forget_images(docker)
                docker.run("pull", reference)
                (again,) = docker.json("image", "inspect", reference)
                assert (again["Id"], again["RootFS"]) == (first[0]["Id"], first[0]["RootFS"])
            mirrors.require_stale("docker.io/library/docker-app")


@pytest.mark.tools("containerd", "ctr")
@pytest.mark.parametrize("entrance", ["namespace", "path"])
def test_containerd_pulls_by_hosts_of_a_directory(
    mirrors: Mirrors, new_client: Callable[[str], Client], ctr: Client, layout: Layout, tmp_path: Path, entrance: str
) -> None:
    hub, repository = mirrors.upstreams["hub"], f"library/containerd-{entrance}"
    hub.push(new_client("skopeo"), layout, "multi", repository)
    address, override = {
        "namespace": (mirrors.registry.url, ""),
        "path": (f"{mirrors.registry.url}/mirror/hub/v2", "override_path = true\n"),
    }[entrance]
    (tmp_path / "certs.d/docker.io").mkdir(parents=True)
    (tmp_path / "certs.d/docker.io/hosts.toml").write_text(
        f'server = "https://registry-1.docker.io"\n[host."{address}"]\ncapabilities = ["pull", "resolve"]\n{override}',
        encoding="utf-8",
    )
    root = tagged(layout.directory, "multi")

    def forget() -> None:
        """Remove what this daemon has of any test: content that is here is not asked for."""
        ctr.run("images", "rm", "--sync", *ctr.run("images", "ls", "--quiet").split())
        assert root["digest"] not in ctr.run("content", "ls", "--quiet")

    def pull(reference: str) -> None:
        hosts = ("--hosts-dir", tmp_path / "certs.d", "--snapshotter=native", "--all-platforms")
        ctr.run("images", "pull", *hosts, reference)
        found = content(lambda child: ctr.output("content", "get", child["digest"]), root)
        assert found == layout_content(layout.directory, "multi")
        forget()

    if ctr.run("images", "ls", "--quiet"):
        forget()
    pull(f"docker.io/{repository}:1")
    with mirrors.away("hub"):
        pull(f"docker.io/{repository}:1")
        pull(f"docker.io/{repository}@{root['digest']}")
        mirrors.require_stale(f"docker.io/{repository}")


@pytest.mark.tools("podman")
def test_podman_pulls_by_the_names_of_registries(
    mirrors: Mirrors, new_client: Callable[[str], Client], layout: Layout
) -> None:
    hub, podman = mirrors.upstreams["hub"], new_client("podman")
    hub.push(new_client("skopeo"), layout, "multi", "library/podman-app")
    root, name = tagged(layout.directory, "multi")["digest"], "docker.io/library/podman-app"
    path = podman.home / "registries.conf"
    path.write_text(
        '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
        f'[[registry.mirror]]\nlocation = "{mirrors.address}/docker.io"\ninsecure = true\n',
        encoding="utf-8",
    )
    podman.environment["CONTAINERS_REGISTRIES_CONF"] = str(path)
    with store(podman) as run:
        run("pull", f"{name}:1")
        (first,) = json.loads(run("inspect", f"{name}:1"))
        assert root in str(first["RepoDigests"])
        with mirrors.away("hub"):
            for reference in (f"{name}:1", f"{name}@{root}"):
                run("rmi", "--all", "--force")
                run("pull", reference)
                (again,) = json.loads(run("inspect", reference))
                assert (again["Id"], again["RootFS"]) == (first["Id"], first["RootFS"])
            mirrors.require_stale(name)
