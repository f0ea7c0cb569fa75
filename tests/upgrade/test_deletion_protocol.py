"""Deletions of this release beside a former one, which does not know its clocks, unclear deletes and tombstones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from registry.config.settings import Settings
from registry.database import blobs
from registry.database.statement import Statement
from registry.images.blob_deletion import Claim
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.storage.errors import StorageUnavailable
from registry.storage.factory import open_driver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.soak.client import Client
from tests.support.payloads import Blob
from tests.upgrade.places import Tenancy

pytestmark = [pytest.mark.upgrade, pytest.mark.timeout(900)]

NAME = "beside/deletion"
BLOB = Blob(b"deleted here and pushed there")
DIGEST = Digest.parse(BLOB.digest)


class Beside:
    """A process of this release that deletes, and a former one that serves."""

    def __init__(self, tenancy: Tenancy, client: Client) -> None:
        self.client = client
        settings = Settings.model_validate(tenancy.place.config)
        self.driver = FaultyDriver(
            open_driver(settings), [Fault(operation="delete_once", effect=StorageUnavailable("", "500"))]
        )
        self.registry = Registry.open(settings, self.driver)
        self.key = self.registry.backends.layout.blob(NAME, DIGEST)

    def claim(self) -> Claim:
        """Push the blob through the former release, end its membership, and claim its bytes."""
        self.client.push_blob(NAME, BLOB)
        with self.registry.backends.database.transaction() as connection:
            row = blobs.lock(connection, DIGEST).get()
            assert row is not None
            connection.execute(Statement("DELETE FROM membership WHERE blob_id = :blob"), {"blob": row.id})
            claim = self.registry.blob_deletion.claim(connection, row.id, self.key)
        assert claim is not None
        return claim

    def push(self) -> int:
        """The status of a push through the former release."""
        target = f"/v2/{NAME}/blobs/uploads/?digest={BLOB.digest}"
        return self.client.call("POST", target, BLOB.data).status

    def check(self) -> None:
        """Both have the blob."""
        assert self.client.has_blob(NAME, BLOB.digest)
        assert self.client.call("GET", f"/v2/{NAME}/blobs/{BLOB.digest}").body == BLOB.data
        assert self.registry.blobs.find(NAME, DIGEST).size == len(BLOB.data)
        assert self.driver.stat(self.key).size == len(BLOB.data)


@pytest.fixture
def beside(tenancy: Tenancy, former: list[str]) -> Iterator[Beside]:
    with tenancy.served(former) as client:  # it makes the schema of its time
        made = Beside(tenancy, client)
        yield made
        made.registry.close()


def test_a_former_release_pushes_nothing_that_a_delete_may_still_take(beside: Beside) -> None:
    claim = beside.claim()
    if not beside.driver.capabilities.late_deletes:
        assert beside.push() == 503, "while it is claimed"
        with pytest.raises(StorageUnavailable):
            beside.registry.blob_deletion.delete(claim)
    else:
        with pytest.raises(StorageUnavailable):
            beside.registry.blob_deletion.delete(claim)
        assert beside.push() == 503, "while it is unclear"
        beside.driver.delete([beside.key])  # it comes
        assert beside.registry.blob_deletion.finish_abandoned() == 1
    assert beside.push() == 201
    beside.check()


def test_a_former_release_pushes_what_is_a_tombstone_and_keeps_what_it_pushed(beside: Beside) -> None:
    claim = beside.claim()
    with contextlib.suppress(StorageUnavailable):
        beside.registry.blob_deletion.delete(claim)
    beside.driver.delete([beside.key])
    assert beside.registry.blob_deletion.finish_abandoned() == 1
    with beside.registry.backends.database.snapshot() as connection:
        row = blobs.find(connection, DIGEST).get()
    assert row is not None
    assert row.state == blobs.GONE
    assert not beside.client.has_blob(NAME, BLOB.digest)
    assert beside.push() == 201
    beside.check()
    assert beside.registry.blob_deletion.prune() == 0
    assert beside.registry.blob_deletion.finish_abandoned() == 0
    beside.check()
