"""Single instance: a lease that the command holds while it works, so that one instance works at a time."""

from __future__ import annotations

import _thread
import contextlib
import time
from typing import TYPE_CHECKING, Final

from registry.background.leases import Leases
from registry.images.backends import holder_name
from registry.migration.report import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.background.leases import Held
    from registry.database.engine import Database

LEASE: Final = "migration"
SECONDS: Final = 15.0
"""How long an instance that was killed on another machine keeps the next one out."""
PATIENCE: Final = 20.0
"""Seconds that an instance waits for one that was killed."""
_LOOK_SECONDS: Final = 0.5


@contextlib.contextmanager
def exclusive_run(
    database: Database,
    on_loss: Callable[[], None] = _thread.interrupt_main,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lease for the block. Raises Refused as soon as it is known that another instance is alive.

    The lease of an instance that was killed on this machine is taken at once, one of another machine after SECONDS.
    ``on_loss`` is called in another thread if the lease could not be renewed in time: the work must stop then, as by
    Ctrl-C.
    """
    leases = Leases(database, holder_name())
    given_up = clock() + PATIENCE
    seen: Held | None = None
    with contextlib.ExitStack() as holding:
        while not holding.enter_context(leases.hold(LEASE, SECONDS, on_loss, succeeds_dead=True)):
            found = leases.held(LEASE)
            if found is not None:
                seen = seen or found
                if found != seen or clock() > given_up:
                    raise Refused(f"another instance migrates this bucket: {found.holder}", [found.holder])
            sleep(_LOOK_SECONDS)
        yield
