"""docker: a real daemon pushes and pulls, with the classic image store and Docker's own media types."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.clients.daemon import DockerDaemon
from tests.clients.layouts import DOCKER_LIST, DOCKER_MANIFEST, Layout, digest_of, random_bytes, tagged, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.conftest import PushLayout
    from tests.clients.wire import Wire
    from tests.support.servers import Registry

pytestmark = [pytest.mark.clients, pytest.mark.tools("docker", "dockerd")]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerDaemon]:
    with DockerDaemon(tmp_path_factory.mktemp("d")) as running:
        yield running


@pytest.fixture
def docker(daemon: DockerDaemon, tmp_path: Path) -> Client:
    return daemon.client(tmp_path / "docker")


@pytest.fixture
def host(registry_server: Registry) -> str:
    """The name that a developer types: docker speaks HTTP to localhost without being told."""
    return f"localhost:{registry_server.port}"


def layers_in(saved: bytes) -> list[str]:
    """Return the digests of the uncompressed layers in what `docker save` wrote, in order."""
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(name)
            assert member is not None
            return member.read()

        (image,) = json.loads(read("manifest.json"))
        return [digest_of(read(layer)) for layer in image["Layers"]]


def test_push_then_pull_into_an_empty_daemon(daemon: DockerDaemon, docker: Client, wire: Wire, host: str) -> None:
    name = f"{host}/team/app:1"
    archive = tar({"etc/motd": b"hello\n", "data": random_bytes(2_000_000)})
    image = docker.run("import", "-", name, stdin=archive)
    assert "Pushed" in docker.run("push", name)
    manifest = wire.manifest("team/app", "1")
    assert manifest.headers["content-type"] == DOCKER_MANIFEST
    assert manifest.json()["config"]["digest"] == image
    assert len(wire.content("team/app", "1")) == 3

    again = docker.run("push", name)
    assert "Layer already exists" in again
    assert "Pushed" not in again
    assert digest_of(manifest.body) in again

    daemon.forget_images(docker)
    docker.run("pull", name)
    assert docker.json("inspect", name)[0]["Id"] == image
    assert docker.json("inspect", name)[0]["RepoDigests"] == [f"{host}/team/app@{digest_of(manifest.body)}"]
    assert layers_in(docker.output("save", name)) == [digest_of(archive)]


def test_a_layer_that_another_repository_has_is_mounted(
    daemon: DockerDaemon, docker: Client, wire: Wire, host: str
) -> None:
    docker.run("import", "-", f"{host}/mount/first:1", stdin=tar({"data": random_bytes(500_000, "mount")}))
    docker.run("push", f"{host}/mount/first:1")
    docker.run("tag", f"{host}/mount/first:1", f"{host}/mount/second:1")
    assert "Mounted from mount/first" in docker.run("push", f"{host}/mount/second:1")
    assert wire.content("mount/second", "1") == wire.content("mount/first", "1")


@pytest.mark.local_storage("the kind of store makes no difference")
def test_an_image_of_forty_layers(
    daemon: DockerDaemon, docker: Client, new_client: Callable[[str], Client], wire: Wire, host: str, tmp_path: Path
) -> None:
    archives = [tar({f"file-{number}": random_bytes(5_000, number)}) for number in range(40)]
    made = Layout(tmp_path / "forty")
    made.tag("1", made.image(archives))
    name = f"{host}/team/forty:1"
    new_client("skopeo").run("copy", f"oci:{made.directory}:1", f"docker-archive:{tmp_path}/forty.tar:{name}")
    docker.run("load", "--input", tmp_path / "forty.tar")
    docker.run("push", name)
    assert len(wire.content("team/forty", "1")) == 42

    daemon.forget_images(docker)
    docker.run("pull", name)
    assert layers_in(docker.output("save", name)) == [digest_of(archive) for archive in archives]


def test_a_manifest_list_of_two_platforms(daemon: DockerDaemon, docker: Client, wire: Wire, host: str) -> None:
    name = f"{host}/team/multi"
    for architecture in ("amd64", "arm64"):
        docker.run(
            "import",
            "--platform",
            f"linux/{architecture}",
            "-",
            f"{name}:{architecture}",
            stdin=tar({"name": architecture.encode()}),
        )
        docker.run("push", f"{name}:{architecture}")
    docker.run("manifest", "create", "--insecure", f"{name}:1", f"{name}:amd64", f"{name}:arm64")
    docker.run("manifest", "annotate", f"{name}:1", f"{name}:arm64", "--os=linux", "--arch=arm64")
    digest = docker.run("manifest", "push", "--insecure", f"{name}:1")
    listed = wire.manifest("team/multi", "1")
    assert digest_of(listed.body) == digest
    assert listed.headers["content-type"] == DOCKER_LIST
    assert [entry["platform"]["architecture"] for entry in listed.json()["manifests"]] == ["amd64", "arm64"]
    assert len(docker.json("manifest", "inspect", "--insecure", f"{name}:1")["manifests"]) == 2

    daemon.forget_images(docker)
    docker.run("pull", f"{name}:1")
    config = wire.manifest("team/multi", "amd64").json()["config"]["digest"]
    assert docker.json("inspect", f"{name}:1")[0]["Id"] == config


def test_an_index_that_another_client_pushed_is_pulled(
    daemon: DockerDaemon, docker: Client, push_layout: PushLayout, wire: Wire, host: str, layout: Layout
) -> None:
    push_layout(layout.directory, "multi", f"{wire.address}/team/oci:1")
    digest = tagged(layout.directory, "multi")["digest"]
    docker.run("pull", f"{host}/team/oci@{digest}")
    docker.run("pull", f"{host}/team/oci:1")
    assert docker.json("inspect", f"{host}/team/oci:1")[0]["Architecture"] == "amd64"


@pytest.mark.local_storage("the kind of store makes no difference")
def test_all_tags_of_a_repository(daemon: DockerDaemon, docker: Client, wire: Wire, host: str) -> None:
    name = f"{host}/team/tags"
    docker.run("import", "-", f"{name}:a", stdin=tar({"one": b"file"}))
    for tag in ("b", "c"):
        docker.run("tag", f"{name}:a", f"{name}:{tag}")
    docker.run("push", "--all-tags", name)
    assert wire.tags("team/tags") == ["a", "b", "c"]
    daemon.forget_images(docker)
    docker.run("pull", "--all-tags", name)
    assert sorted(docker.run("images", "--format={{.Tag}}", name).split()) == ["a", "b", "c"]


@pytest.mark.local_storage("the kind of store makes no difference")
def test_docker_reports_missing_content_as_unknown(docker: Client, host: str) -> None:
    docker.fails("pull", f"{host}/team/absent:1", saying="not found")
