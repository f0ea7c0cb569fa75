"""Journal: writes that of a migration; ``registry.images.migration_journal`` has its formats, and reads it."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from registry.images.index_file import MAX_INDEX
from registry.images.migration_journal import reader as keys
from registry.images.migration_journal.documents import MigrationState, Phase, serialise_shard
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.migration.report import Problem, Refused
from registry.storage.errors import AlreadyExists, PathNotFound, PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from registry.images.migration_journal.documents import Baseline, ReadOnly, ShardEntry
    from registry.storage.driver import StorageDriver

_MAX_PROBLEMS = 256 << 20


def writer_name() -> str:
    """The name of this process as a writer of journals; no other process ever has it."""
    return f"{os.uname().nodename}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class MigrationJournal:
    """The journal of the migration that counts. Any thread; ``begin``, ``resume`` and ``move`` one at a time.

    What is written a second time with the same content is not written: the same bucket has the same journal, whatever
    was killed in between. Raises StorageError.
    """

    def __init__(
        self, driver: StorageDriver, *, writer: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._driver = driver
        self.locations = MigrationJournalReader(driver)
        """Reads the journals of all migrations."""
        self._writer = writer or writer_name()
        self._clock = clock
        self._state: MigrationState | None = None
        self._etag = ""

    @property
    def state(self) -> MigrationState:
        """The state as it was last read or written. Call ``begin``, or a ``resume`` that finds one, first."""
        if self._state is None:
            raise ValueError("no migration has begun")
        return self._state

    @property
    def id(self) -> str:
        """The number of the migration."""
        return self.state.id

    # ---- the state

    def resume(self) -> MigrationState | None:
        """Go on with the newest migration; returns its state, None if there is none."""
        found = self.locations.newest()
        if found is None:
            return None
        self._state, self._etag = found[0], found[1].etag
        return self._state

    def begin(self, layout: str, prefixes: tuple[str, ...]) -> MigrationState:
        """Go on with the newest migration, or begin the next one if there is none or it was rolled back.

        The next one is read-only if the one before it was. Raises Refused if another instance begins one too.
        """
        newest = self.resume()
        if newest is not None and newest.state is not Phase.ROLLED_BACK:
            return newest
        now = self._now()
        state = MigrationState(
            id=f"{1 if newest is None else int(newest.id) + 1:04d}",
            revision=1,
            state=Phase.ADOPTING,
            layout=layout,
            prefixes=prefixes,
            passes=0,
            began=now,
            changed=now,
            writer=self._writer,
            read_only=None if newest is None else newest.read_only,
        )
        return self._write_state(state, if_absent=True)

    def move(
        self,
        phase: Phase,
        *,
        read_only: ReadOnly | None = None,
        passes: int | None = None,
        counts: dict[str, int] | None = None,
    ) -> MigrationState:
        """Write the next revision of the state. What is None of ``passes`` and ``counts`` stays.

        Raises Refused if another instance has written since: this one must not go on.
        """
        state = self.state
        return self._write_state(
            replace(
                state,
                revision=state.revision + 1,
                state=phase,
                changed=self._now(),
                writer=self._writer,
                read_only=read_only,
                passes=state.passes if passes is None else passes,
                counts=state.counts if counts is None else counts,
            ),
            if_etag=self._etag,
        )

    def _write_state(
        self, state: MigrationState, *, if_etag: str | None = None, if_absent: bool = False
    ) -> MigrationState:
        key, data = keys.state_key(state.id), state.serialise()
        try:
            stat = self._driver.write(key, data, if_etag=if_etag, if_absent=if_absent)
        except (AlreadyExists, PreconditionFailed) as error:
            found = self.locations.state(state.id)
            if found is None or found[0] != state:  # ours, when only its answer was lost
                by = "a process that is gone" if found is None else found[0].writer
                raise Refused(f"another instance works on migration {state.id}: {by} has written its state") from error
            stat = found[1]
        self._state, self._etag = state, stat.etag
        return state

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")

    # ---- blobs and repositories

    def shard(self, shard: str) -> list[ShardEntry]:
        """The lines of a shard of this migration; empty if there is no such shard."""
        found = self.locations.shard(self.id, shard)
        return [] if found is None else found[0]

    def shard_names(self) -> list[str]:
        """The names of the shards of this migration, sorted."""
        prefix = keys.shards_prefix(self.id)
        return [key.removeprefix(f"{prefix}/").removesuffix(".jsonl") for key, _ in self._driver.list(prefix)]

    def base(self, repository: str) -> Baseline | None:
        """The newest baseline of a repository in any migration."""
        return self.locations.base(repository)

    def write_shard(self, shard: str, lines: Iterable[ShardEntry]) -> bool:
        """Replace the lines of a shard; returns whether they changed."""
        return self._write(keys.shard_key(self.id, shard), serialise_shard(lines))

    def write_base(self, base: Baseline) -> bool:
        """Replace the baseline of its repository in this migration; returns whether it changed."""
        return self._write(keys.base_key(self.id, base.name), base.serialise())

    def save_index(self, repository: str, data: bytes, *, replace: bool = False) -> None:
        """Keep the source registry's ``index.json`` before its key becomes ours; only the first, unless ``replace``.

        ``replace`` is for an index that was not overwritten since it was kept.
        """
        key = keys.saved_index_key(self.id, repository)
        if replace:
            self._write(key, data)
            return
        try:
            self._driver.write(key, data, if_absent=True)
        except AlreadyExists:
            return

    def saved_index(self, repository: str) -> bytes | None:
        """What ``save_index`` has kept; None if the key was never ours too."""
        return self._read_whole(keys.saved_index_key(self.id, repository), MAX_INDEX)

    def save_ours(self, repository: str, data: bytes) -> None:
        """Keep our ``index.json`` before a rollback gives its key back."""
        self._write(keys.ours_key(self.id, repository), data)

    def write_problems(self, problems: Iterable[Problem]) -> None:
        """Keep the problems of a pass, as in a plan."""
        lines = (orjson.dumps(problem.document(), option=orjson.OPT_APPEND_NEWLINE) for problem in sorted(problems))
        self._write(keys.problems_key(self.id), b"".join(lines))

    def problems(self) -> list[Problem]:
        """What ``write_problems`` has kept."""
        data = self._read_whole(keys.problems_key(self.id), _MAX_PROBLEMS) or b""
        return [Problem.from_document(orjson.loads(line)) for line in data.splitlines()]

    # ----

    def _write(self, key: str, data: bytes) -> bool:
        if self._read_whole(key, max(_MAX_PROBLEMS, len(data))) == data:
            return False
        self._driver.write(key, data)
        return True

    def _read_whole(self, key: str, max_bytes: int) -> bytes | None:
        try:
            return self._driver.read(key, max_bytes=max_bytes)[0]
        except PathNotFound:
            return None
