"""A bucket under an empty database: the catalog fills by itself, behind the open port."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.wire import Wire, until
from tests.replicas.conftest import Config
from tests.replicas.test_budget import CONFIG, IMAGE, LAYERS, push_image
from tests.support.postgresql import Cluster
from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]


def test_a_new_database_is_filled_behind_the_open_port(
    shared_config: Config, cluster: Cluster, replica: Callable[[Config], RegistryProcess]
) -> None:
    wire = Wire(replica(shared_config).address)
    names = ["library/one", "library/one/nested", "team/app"]
    for name in names:
        push_image(wire, wire, IMAGE, [CONFIG, *LAYERS], name)
    empty = Wire(replica({**shared_config, "database": {"url": cluster.create()}}).address)
    until(lambda: empty.request("GET", "/v2/_catalog").json()["repositories"] == names, "the catalog is whole")
    for name in names:
        assert empty.manifest(name, "v1").body == IMAGE.data
