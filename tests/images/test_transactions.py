"""No transaction is open during a call to storage: no thread waits for a store that another one waits for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from registry.database.engine import Database
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.oci.digest import Digest
from registry.storage.middleware.base import DriverDecorator
from tests.support.registry_world import ACTOR, NAME, Pushed, World, pull, push_blob, push_image

T = TypeVar("T")

open_transactions = threading.local()


class Watching(DriverDecorator):
    """Sees that the calling thread has no transaction open."""

    calls = 0

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:
        assert not getattr(open_transactions, "count", 0), (operation, key)
        self.calls += 1
        return call()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("snapshot", "autocommit", "transaction"):
        monkeypatch.setattr(Database, kind, counting(getattr(Database, kind)))


def counting(begin: Callable[..., Any]) -> Callable[..., Any]:
    """The same transaction, known to the thread that has it open."""

    @contextlib.contextmanager
    def transaction(*arguments: Any, **options: Any) -> Iterator[Any]:
        open_transactions.count = getattr(open_transactions, "count", 0) + 1
        try:
            with begin(*arguments, **options) as connection:
                yield connection
        finally:
            open_transactions.count -= 1

    return transaction


def test_no_transaction_is_open_during_a_call_to_storage(world: World, watched: None) -> None:
    driver = Watching(world.driver())
    registry = world.registry(driver=driver)
    made = push_image(registry, "1", "v1", "v2")
    assert registry.blobs.mount("other/app", push_blob(registry, b"mounted"), NAME)
    registry.fold_waiting()
    fresh = world.registry(driver=driver, url=world.another())
    rebuild_registry(fresh)
    for each in (registry, fresh):
        assert pull(each, "v1") == made.digest
    end(registry, made)
    assert driver.calls > 30


def end(registry: Registry, made: Pushed) -> None:
    """Delete everything, expire what is left, and finish what others have begun."""
    registry.manifests.untag(NAME, "v1", actor=ACTOR)
    registry.manifests.delete(NAME, made.digest, actor=ACTOR)
    registry.fold_waiting()
    for blob in (made.config, made.layer):
        registry.blobs.delete(NAME, Digest.parse(blob.digest))
    registry.uploads.start(NAME)
    registry.uploads.expire()
    registry.blob_deletion.finish_abandoned()
