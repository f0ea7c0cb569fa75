"""Two hostile servers for each test that wants them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.upstream.hostile import HostileServer, hostile_server


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def other() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server
