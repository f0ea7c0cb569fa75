"""A registry for all tests, homes for client programs, and the registry's log beside each failure."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.clients.client import Client
from tests.clients.layouts import Layout, random_bytes, tar
from tests.clients.wire import Wire
from tests.support.replicas import Replicas
from tests.support.servers import RegistryProcess
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from tests.support.backends import Backend
    from tests.support.servers import Registry

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of each server's log beside a failure."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, RegistryProcess | Replicas):
                report.sections.append((f"log of {value.url}", value.log_tail()))
    return report
