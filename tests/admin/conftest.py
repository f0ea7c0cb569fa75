"""A registry for the tests of its administration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.admin.place import Place, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """For one test."""
    with opened(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """For tests that do not mind what others of their module have left; a key has 90 days at most."""
    with opened(tmp_path_factory.mktemp("shared"), keys={"max_days": 90}) as made:
        yield made
