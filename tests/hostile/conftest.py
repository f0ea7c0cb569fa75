"""One registry for all hostile tests, with bait beside its root directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hostile.place import CANARY, Place
from tests.hostile.wire import Address
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A registry with default settings and two seeded repositories."""
    outer = tmp_path_factory.mktemp("hostile")
    for bait in ("secret", "blobs/secret", "index.json", "oci-layout"):
        (outer / bait).parent.mkdir(exist_ok=True)
        (outer / bait).write_bytes(CANARY)
    with RegistryProcess(outer) as server:
        found = Place(Address(HOST, server.port), server.root, outer, frozenset({str(server.log_path)}))
        found.seed()
        yield found


@pytest.fixture(autouse=True)
def untouched(place: Place) -> Iterator[None]:
    """Whatever a hostile test sends, the storage tree is afterwards what it was before."""
    before = place.settled()
    yield
    place.assert_unchanged(before)


@pytest.fixture
def session(place: Place) -> Iterator[str]:
    """The path of an open upload session, cancelled at the end."""
    path = place.open_session()
    yield path
    place.cancel(path)
