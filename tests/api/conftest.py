"""One registry for the tests of a module; each test that pushes takes a repository of its own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.api.service import Service, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("api")) as found:
        yield found


@pytest.fixture
def repository() -> str:
    return f"test/{uuid.uuid4().hex}"
