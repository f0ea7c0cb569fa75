"""*Run* of a collection: its steps, each over what stood there before the run (proposal 0013)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from registry.database.collection import doomed
from registry.maintenance.collection.context import Context
from registry.maintenance.collection.steps.emptied_trash import EmptiedTrash
from registry.maintenance.collection.steps.empty_repositories import EmptyRepositories
from registry.maintenance.collection.steps.expired_trash import ExpiredTrash
from registry.maintenance.collection.steps.left_files import LeftFiles
from registry.maintenance.collection.steps.leftovers import Leftovers
from registry.maintenance.collection.steps.names import Names
from registry.maintenance.collection.steps.orphans import Orphans
from registry.maintenance.collection.steps.sightings import Sightings
from registry.maintenance.collection.steps.unheld_blobs import UnheldBlobs
from registry.maintenance.collection.steps.unused_members import UnusedMembers
from registry.maintenance.collection.steps.unused_tags import UnusedTags
from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.images.registry import Registry
    from registry.maintenance.collection.budget import Budget
    from registry.maintenance.collection.ledger import Ledger

    OnStep = Callable[[int, int], object]
    """Called with the number of steps that are done, and of all."""


class Wanted(NamedTuple):
    """What a run is asked to do."""

    dry: bool = False
    """Nothing is changed; the ledger has what a run would remove."""
    untagged_after: float | None = None
    mirrors: Mapping[str, float | None] = MappingProxyType({})
    redirect_expiry: float = 0.0
    with_found: bool = False
    orphans_after: float = 0.0
    """See Context, which these become a part of."""
    emptied: str | None = None
    """The repository whose trash is emptied, "" for all: nothing else is done then. None for a whole collection."""


class CollectionRun:
    """One run. For one thread; two at once are harmless. Killed at any instant, the next one goes on.

    The caller has made sure that the database knows all that storage has.
    """

    def __init__(
        self,
        registry: Registry,
        wanted: Wanted,
        ledger: Ledger,
        budget: Budget,
        unsafe: Mapping[str, str],
    ) -> None:
        """``unsafe``: see Context."""
        self._emptied = wanted.emptied
        self._context = Context(
            registry,
            ledger,
            budget,
            Names(registry.backends.driver),
            dry=wanted.dry,
            now=registry.backends.clock(),
            redirect_expiry=wanted.redirect_expiry,
            untagged_after=wanted.untagged_after,
            mirrors=wanted.mirrors,
            unsafe=unsafe,
            with_found=wanted.with_found,
            orphans_after=wanted.orphans_after,
        )

    def finish(self, on_step: OnStep = lambda _done, _all: None) -> None:
        """Run every step. Raises DatabaseError, Stopped.

        An error of storage ends its step alone, as a problem in the ledger: what it leaves, the next run does.
        """
        context = self._context
        steps: list[Callable[[], None]] = [
            EmptyRepositories(context).run,
            UnheldBlobs(context).run,
            ExpiredTrash(context).run,
            LeftFiles(context).run,
            UnusedTags(context).run,
            UnusedMembers(context).run,
            Orphans(context).run,
            Sightings(context).run,
            Leftovers(context).run,
        ]
        if self._emptied is not None:
            steps = [EmptiedTrash(context, self._emptied).run, UnheldBlobs(context).run]
        for done, step in enumerate(steps):
            on_step(done, len(steps))
            try:
                step()
            except (RegistryError, StorageError) as error:
                context.ledger.trouble(str(error))
        with context.registry.backends.database.autocommit() as connection:
            context.ledger.oldest = doomed.oldest(connection).get()[0] or 0.0
        on_step(len(steps), len(steps))
