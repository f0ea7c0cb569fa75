"""A registry with a mirror of a hostile server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.mirroring.mirrored_service import MirroredService, mirrored_service
from tests.upstream.hostile import HostileServer, hostile_server


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def service(server: HostileServer, tmp_path: Path) -> Iterator[MirroredService]:
    with mirrored_service(server, tmp_path) as service:
        yield service
