"""What is over goes in pages, and what counts stays."""

from __future__ import annotations

import pytest

from registry.database import leases
from registry.database.engine import Database
from registry.database.mirrors import mirror_tags, remote_misses
from registry.database.statement import Statement
from registry.mirror.arrivals import LEASE_PREFIX
from registry.mirror.expiry import expire_rows
from registry.oci.errors import ManifestUnknown
from tests.mirror.scripted import HERE, Mirror, ScriptedRemote
from tests.support.registry_world import World, make_image

COUNTS = {table: Statement(f"SELECT count(*) FROM {table}") for table in ("remote_miss", "mirror_tag", "lease")}  # noqa: S608


def rows(database: Database) -> dict[str, int]:
    with database.autocommit() as connection:
        return {table: int(connection.execute(count, {}).one()[0]) for table, count in COUNTS.items()}


@pytest.mark.parametrize("page", [2, 1000])
def test_what_is_over_goes_and_the_rest_stays(world: World, mirror: Mirror, remote: ScriptedRemote, page: int) -> None:
    database = mirror.registry.backends.database
    names = [f"v{number}" for number in range(5)]
    remote.push(make_image("one").manifest, *names)
    for name in names:
        mirror.find(name)
        with pytest.raises(ManifestUnknown):
            mirror.find(f"absent-{name}")
        with database.transaction() as connection:
            assert leases.take(connection, f"{LEASE_PREFIX}hub:{HERE}:{name}", "killed", seconds=15)
    with database.transaction() as connection:
        assert leases.take(connection, "rescan", "killed", seconds=15)
    for name in names[1:]:
        mirror.registry.manifests.untag(HERE, name, actor="tester")
    before = rows(database)
    expire_rows(database, page=page)
    assert rows(database) == before | {"mirror_tag": 1}
    world.clock.now += 4000
    with pytest.raises(ManifestUnknown):
        mirror.find("absent-again")
    with database.transaction() as connection:
        assert leases.take(connection, f"{LEASE_PREFIX}hub:{HERE}:now", "alive", seconds=15)
    expire_rows(database, page=page)
    assert rows(database) == {"remote_miss": 1, "mirror_tag": 1, "lease": 2}
    with database.autocommit() as connection:
        assert remote_misses.left(connection, "hub", f"{HERE}:absent-again", most=60).get() > 0
        assert leases.find(connection, "rescan").get() is not None
    assert mirror_tags.BEGINNING == (0, "")
