"""A place of each kind, and each former release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.s3_server import S3Server
from tests.support.tools import require_tools
from tests.upgrade import releases
from tests.upgrade.content import Content
from tests.upgrade.filled import FilledPlaces
from tests.upgrade.places import Bucket, Directory, Place, Tenancy


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    require_tools("versitygw")
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=releases.FORMER, ids=str)
def former(request: pytest.FixtureRequest) -> list[str]:
    """The command of a former release."""
    return releases.command(request.param)


@pytest.fixture(params=["directory", "bucket"])
def tenancy(request: pytest.FixtureRequest, tmp_path: Path) -> Tenancy:
    place: Place
    if request.param == "directory":
        place = Directory(tmp_path)
    else:
        place = Bucket(request.getfixturevalue("store"), request.getfixturevalue("cluster"))
    return Tenancy(place, tmp_path)


@pytest.fixture(scope="session")
def filled_places() -> FilledPlaces:
    return FilledPlaces()


@pytest.fixture
def content(filled_places: FilledPlaces, tenancy: Tenancy, former: list[str], tmp_path: Path) -> Content:
    """What the place of the tenancy has: a former release filled it, and was killed."""
    return filled_places.give(tenancy, former, tmp_path / "filled")
