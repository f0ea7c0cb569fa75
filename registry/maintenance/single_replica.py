"""Single replica: the lease for changing indexes, over a store that ignores conditional writes.

Tests: ``tests/cli/test_rebuild.py``.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import structlog

from registry.background.leases import Leases
from registry.config.sections import AUTO
from registry.database.engine import Database
from registry.database.schema import upgrade_database
from registry.images.backends import holder_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.settings import Settings

LEASE = "single-replica"
SECONDS = 30.0
"""How long a killed replica keeps the next one out."""

log = structlog.get_logger(__name__)


class AnotherReplica(Exception):
    """Going on would lose pushes: the store cannot keep two writers apart."""


def writing(settings: Settings, *, conditional_writes: bool) -> contextlib.AbstractContextManager[None]:
    """The right to change indexes, for the block: every process has it where the store honours conditions.

    Raises AnotherReplica.
    """
    return contextlib.nullcontext() if conditional_writes else _alone(settings)


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    reason = f"the {settings.storage.driver} store ignores conditional writes (If-Match, If-None-Match)"
    if settings.http.workers not in {AUTO, 1}:
        raise AnotherReplica(f"{reason}, so one process only may write: set http.workers to 1")
    database = Database.of(settings)
    try:
        upgrade_database(database)
        with Leases(database, holder_name()).hold(LEASE, SECONDS, on_loss=_stop) as held:
            if not held:
                message = f"{reason}, and another process has the right to write"
                raise AnotherReplica(f"{message}; stop it, or use a store that honours them")
            log.warning("one process only: the store ignores conditional writes", storage=settings.storage.driver)
            yield
    finally:
        database.close()


def _stop() -> None:
    log.error("the right to be the only replica could not be renewed; stopping")
    os.kill(os.getpid(), signal.SIGTERM)
