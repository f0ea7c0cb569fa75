"""Status: where a migration is, by its journal alone, without a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from registry.images.migration_journal.documents import Phase
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.migration.journal import MigrationJournal
from registry.migration.review.requests import Tally
from registry.migration.source.bucket import opened

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.images.migration_journal.documents import MigrationState
    from registry.storage.driver import StorageDriver

_COMMAND: Final = "registry migrate-s3-storage"
_NEXT: Final = {
    Phase.ADOPTING: f"{_COMMAND}, once nothing writes to the source any more",
    Phase.ADOPTED: f"{_COMMAND} copies the blobs; --rollback goes back",
    Phase.CONSOLIDATED: f"{_COMMAND} --finalize --dry-run, then --finalize; --rollback goes back",
    Phase.ROLLING_BACK: f"{_COMMAND} --rollback",
    Phase.ROLLED_BACK: f"start the source; {_COMMAND} begins again",
    Phase.FINALIZING: f"{_COMMAND} --finalize",
    Phase.FINALIZED: "nothing is left to do",
}


@dataclass(frozen=True, slots=True)
class Status:
    """Where a migration is."""

    migration: str | None
    """None if there is none."""
    state: str
    passes: int
    """Passes that came to an end."""
    began: str | None
    changed: str | None
    """When the state was written last; RFC 3339 in UTC, as ``began``."""
    repositories: int
    """Repositories that the source registry had in the last pass."""
    taken: int
    """Those of them that were adopted."""
    blobs: int
    """Blobs and manifests, each once."""
    copied: int
    """Those of them that are copied, by the journal."""
    problems: int
    read_only: str | None
    """Why clients cannot push; None if they can."""
    next: str
    """What to do next."""


def bucket_status(settings: Settings) -> Status:
    """The status of the bucket in the settings. Raises ConfigError, StorageError, UnknownJournal."""
    with opened(settings, Tally().observe) as driver:
        return status(driver)


def status(driver: StorageDriver) -> Status:
    """The status of the bucket of a driver. Raises StorageError, UnknownJournal."""
    found = MigrationJournalReader(driver).newest()
    if found is None:
        return Status(None, "none", 0, None, None, 0, 0, 0, 0, 0, None, f"{_COMMAND} --dry-run")
    return _status(driver, found[0])


def _status(driver: StorageDriver, state: MigrationState) -> Status:
    journal = MigrationJournal(driver)
    journal.resume()
    blobs = copied = 0
    for _, lines in journal.locations.shards(state.id):
        blobs += len(lines)
        copied += sum(line.copy is not None for line in lines)
    return Status(
        migration=state.id,
        state=state.state,
        passes=state.passes,
        began=state.began,
        changed=state.changed,
        repositories=state.counts.get("repositories", 0),
        taken=sum(1 for _ in journal.locations.bases(state.id)),
        blobs=blobs,
        copied=copied,
        problems=len(journal.problems()),
        read_only=None if state.read_only is None else state.read_only.reason,
        next=_NEXT[state.state],
    )
