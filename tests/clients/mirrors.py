"""A registry with a mirror of each of several registries, and what it says beside the clients that pull through it."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from tests.clients.layouts import MANIFESTS
from tests.clients.upstreams import PASSWORD, Upstream, upstreams
from tests.clients.wire import Wire
from tests.support.replicas import Replicas
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clients.wire import Answer
    from tests.support.backends import Backend
    from tests.support.servers import Registry

STALE = '110 - "Response is Stale"'


class Mirrors(NamedTuple):
    """``localhost`` is the host of the mirror ``hub``, which stands for docker.io."""

    registry: Registry
    upstreams: dict[str, Upstream]

    @property
    def address(self) -> str:
        """Where all of them are, by their prefixes."""
        return self.registry.address

    @property
    def wire(self) -> Wire:
        """The registry over bare HTTP."""
        return Wire(self.address)

    def require_stale(self, repository: str) -> None:
        """Tag 1 of a repository is served as what an upstream that does not answer had."""
        answer = self._get(repository)
        assert (answer.status, answer.headers.get("warning")) == (200, STALE), answer

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """The upstream of a mirror does not run. It does again when this ends, and the mirror asks it."""
        upstream = self.upstreams[name]
        with upstream.away():
            yield
        absent = f"{upstream.prefix}/absent/{uuid4().hex}"
        assert self._get(absent).status == HTTPStatus.NOT_FOUND

    def _get(self, repository: str) -> Answer:
        return self.wire.request("GET", f"/v2/{repository}/manifests/1", headers={"Accept": ", ".join(MANIFESTS)})


@contextmanager
def mirroring(backend: Backend, directory: Path) -> Iterator[Mirrors]:
    """Run it with all its upstreams."""
    password = directory / "password"
    password.write_text(PASSWORD, encoding="utf-8")
    with upstreams(directory) as found:
        registry = backend.registry(directory / "registry")
        assert isinstance(registry, RegistryProcess | Replicas)
        for process in registry.replicas if isinstance(registry, Replicas) else [registry]:
            process.config["mirrors"] = [
                section for each in found.values() for section in (each.section(password), each.second(password))
            ]
        with registry:
            yield Mirrors(registry, found)
