"""A registry for all tests, homes for client programs, and the registry's log beside each failure."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import pytest

from tests.clients.client import Client
from tests.clients.containerd import containerd
from tests.clients.daemon import DockerDaemon
from tests.clients.guarded import Requests, running
from tests.clients.layouts import Layout, random_bytes, tagged, tar
from tests.clients.machines import Machine
from tests.clients.mirrors import Mirrors, mirroring
from tests.clients.stores import Ctr, Docker
from tests.clients.wire import Wire
from tests.support.replicas import Replicas
from tests.support.servers import RegistryProcess
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.servers import Registry

M = TypeVar("M", bound=Machine)
PushLayout: TypeAlias = "Callable[[Path, str, str], None]"
"""Directory of a layout, tag in it, and the reference to push to."""


@pytest.fixture(scope="session")
def registry_server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with default settings that all tests share; each uses repositories of its own."""
    server = backend.registry(tmp_path_factory.mktemp("registry"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def guarded(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with users and rules that all tests of access share."""
    with running(backend, tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture(scope="session")
def mirrors(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirrors]:
    """A registry with a mirror of each of several registries; each test uses repositories of its own."""
    with mirroring(backend, tmp_path_factory.mktemp("mirrors")) as running:
        yield running


@pytest.fixture
def new_machine(
    request: pytest.FixtureRequest, new_client: Callable[[str], Client], guarded: Registry, tmp_path: Path
) -> Callable[[type[M]], M]:
    """Make a machine of a kind that has never logged in to that registry."""

    def make(kind: type[M]) -> M:
        if kind is Docker:
            daemon: DockerDaemon = request.getfixturevalue("docker_daemon")
            return kind(daemon.client(tmp_path / f"docker-{next(numbers)}"), guarded.address)
        client = new_client(kind.tools[0])
        if kind is Ctr:
            client.environment |= request.getfixturevalue("ctr").environment
        return kind(client, guarded.address)

    numbers = count(1)
    return make


@pytest.fixture
def requests(guarded: Registry) -> Requests:
    """What that registry answered since the test began."""
    return Requests(guarded)


@pytest.fixture(scope="session")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """`ctr` of a containerd that all tests share."""
    with containerd(tmp_path_factory.mktemp("c") / "1") as client:
        yield client


@pytest.fixture(scope="session")
def docker_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerDaemon]:
    """A Docker daemon that all tests of access share."""
    with DockerDaemon(tmp_path_factory.mktemp("d")) as daemon:
        yield daemon


@pytest.fixture
def storage_root(registry_server: Registry) -> Path:
    """The directory with that registry's content, for tests marked ``local_storage``."""
    assert isinstance(registry_server, RegistryProcess)
    return registry_server.root


@pytest.fixture
def wire(registry_server: Registry) -> Wire:
    """The same registry over bare HTTP."""
    return Wire(registry_server.address)


@pytest.fixture
def new_client(tmp_path: Path) -> Callable[[str], Client]:
    """Make a client program with an empty home: each call is a machine that has never seen an image."""
    numbers = count(1)

    def make(name: str) -> Client:
        return Client(tool(name), tmp_path / f"{name}-{next(numbers)}")

    return make


@pytest.fixture
def push_layout(new_client: Callable[[str], Client]) -> PushLayout:
    """Push an image or index of a layout, byte for byte, for tests about the client that pulls it."""

    def push(directory: Path, tag: str, reference: str) -> None:
        skopeo = new_client("skopeo")
        exact = ("--all", "--preserve-digests", "--dest-tls-verify=false")
        skopeo.run("copy", *exact, f"oci:{directory}:{tag}", f"docker://{reference}")

    return push


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A layout with a two-layer image `single` and an index `multi` of it for two platforms."""
    made = Layout(tmp_path / "source")
    shared = tar({"shared": random_bytes(300_000, "shared")})
    images = [
        made.image([shared, tar({"name": architecture.encode()})], architecture=architecture)
        for architecture in ("amd64", "arm64")
    ]
    made.tag("single", images[0])
    made.tag("multi", made.index(images))
    return made


@pytest.fixture
def source(layout: Layout) -> Path:
    """A layout with one image, `single`."""
    made = layout.directory
    index = json.loads((made / "index.json").read_bytes())
    index["manifests"] = [tagged(made, "single")]
    (made / "index.json").write_text(json.dumps(index))
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of each server's log beside a failure."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, RegistryProcess | Replicas):
                report.sections.append((f"log of {value.url}", value.log_tail()))
    return report
