"""Random walks through migrations: every command in any order, killed anywhere, between pushes and lost databases.

The model is small. ``truth`` is what a finished pass makes Stowage serve, and what a finished rollback gives back.
``served`` is what Stowage serves at least, whatever has died in the middle. ``SOAK_SEED`` repeats a walk.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.images.migration_journal.documents import Phase
from registry.images.records.folding import ABANDONED_SECONDS
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.migration.command import Run
from registry.migration.context import RunOptions
from registry.migration.report import Refused, Report, Unfinished
from registry.migration.review.requests import Tally
from registry.migration.review.review import Options, Review
from registry.migration.status import status
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from registry.storage.middleware.metrics import MeasuredDriver
from tests.soak.budget import SEED, announce, budget
from tests.support.kills import Doom, Killed, doomed
from tests.support.migrated_bucket import MAKE, Bucket
from tests.support.payloads import Blob, Manifest, image
from tests.support.rollback import check_source, push
from tests.support.source_world import BLOBS, Repository, repositories

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

WALKS = budget(sample=6, full=100)
"""Over each layout."""
STEPS = 14
PASSES = 3
"""In which a bucket without writers is adopted, and a command that is killed ends."""
DEATHS = 0.4
Content = dict[str, Repository]
COMMANDS: dict[str, Callable[[Run], Report]] = {
    "adopt": Run.run,
    "run": Run.run,
    "rollback": Run.rollback,
    "finalize": Run.finalize,
}
ENDS = {
    "adopt": {Phase.ADOPTED, Phase.CONSOLIDATED},
    "run": {Phase.CONSOLIDATED},
    "rollback": {Phase.ROLLED_BACK},
    "finalize": {Phase.FINALIZED},
}
ALLOWED = {
    "none": {"adopt", "run"},
    Phase.ADOPTING: {"adopt", "run", "rollback"},
    Phase.ADOPTED: {"adopt", "run", "rollback"},
    Phase.CONSOLIDATED: {"adopt", "run", "rollback", "finalize"},
    Phase.ROLLING_BACK: {"rollback"},
    Phase.ROLLED_BACK: {"adopt", "run", "rollback"},
    Phase.FINALIZING: {"finalize"},
    Phase.FINALIZED: {"adopt", "run", "finalize"},
}
"""What does not refuse, in each state."""
GONE = {Phase.FINALIZING, Phase.FINALIZED}
"""The source is deleted: it takes no push, and what it has is not looked at."""


class Walk:
    """A bucket, what is done to it, and what must be true of it."""

    def __init__(self, directory: Path, layout: str, seed: str) -> None:
        directory.mkdir()
        self.bucket = Bucket(directory, layout)
        self._directory = directory
        self._chance = random.Random(seed)
        self._truth: Content = {made.name: made for made in repositories()}
        self._served: Content = {}
        self._number = 0
        self._given_back = False
        self.history: list[str] = []
        self.deaths = 0

    def step(self) -> None:
        """Do one thing, and look at everything."""
        weights = {
            self._command: 6, self._push: 3, self._untag: 1, self._delete: 1, self._push_to_source: 1,
            self._lose_database: 2, self._plan: 1,
        }  # fmt: skip
        (action,) = self._chance.choices(list(weights), list(weights.values()))
        self.bucket.world.clock.now += self._chance.uniform(0, 100)
        action()
        self.check()

    def finish(self) -> None:
        """End what has begun: everything is served in the end, exactly."""
        state = self._state()
        name = (
            {Phase.ROLLING_BACK: "rollback", Phase.FINALIZING: "finalize"}.get(Phase(state))
            if state != "none"
            else None
        )
        self._complete(name or "adopt")
        self.check()

    def check(self) -> None:
        """What must be served is, by a process that remembers nothing."""
        registry = self.bucket.registry()
        for repository in self._served.values():
            check_repository(registry, repository)

    # ---- what is done

    def _command(self) -> None:
        self._complete(self._chance.choice(list(COMMANDS)))

    def _complete(self, name: str) -> None:
        """Run a command until it has ended, killed or not; what it refuses leaves everything as it was."""
        if name not in ALLOWED[self._state()]:
            self.history.append(f"{name} refused")
            with pytest.raises(Refused):
                self._run(name, self.bucket.registry())
            return
        report: object = None
        for attempt in range(PASSES + 2):
            if attempt < PASSES and self._is_killed(name):
                self._after_death()
                continue
            self.history.append(name)
            try:
                report = self._run(name, self.bucket.registry())
            except Refused:
                assert name == "finalize" or (name == "rollback" and self._truth.keys() - self._served.keys()), name
                self.history.append("refused")
                return
            except Unfinished as unfinished:
                report = unfinished
                self.history.append(f"again: {unfinished}")
                self.bucket.world.clock.now += ABANDONED_SECONDS  # what a push that died has left is completed then
                continue
            assert report.problems == [], report
            if report.state in ENDS[name] or report.state is Phase.FINALIZED:
                self._ended(name)
                return
        raise AssertionError(f"{name} does not end: {report}")

    def _ended(self, name: str) -> None:
        if self._state() in GONE:
            return
        if name in {"adopt", "run"}:
            self._served = copy.deepcopy(self._truth)
            self._given_back = False
        elif name == "rollback":
            self._given_back = True
            check_source(self.bucket, list(self._truth.values()))

    def _is_killed(self, name: str) -> bool:
        """Run it in a process that may die; whether it did."""
        if self._chance.random() > DEATHS:
            return False
        step = int(2 ** self._chance.uniform(0, 9))
        self.history.append(f"{name}, dying after {step}")
        process = doomed(self.bucket, Doom(step))
        try:
            self._run(name, process)
        except Killed:
            self.deaths += 1
            return True
        except (Refused, Unfinished):
            pass
        finally:
            process.close()
        return False

    def _after_death(self) -> None:
        self.check()
        for action in (self._lose_database, self._push):
            if self._chance.random() < 0.3:
                action()
        self.bucket.world.clock.now += self._chance.uniform(0, 100)

    def _run(self, name: str, registry: Registry) -> Report:
        options = RunOptions(adopt_only=name == "adopt")
        return COMMANDS[name](Run(registry, self.bucket.settings(), options, Tally()))

    def _plan(self) -> None:
        """What is only looked at is not changed."""
        self.history.append("plans")
        before = self.bucket.objects()
        registry = self.bucket.registry()
        Review(
            MeasuredDriver(self.bucket.driver, Tally().observe), self.bucket.settings(), Options(), Tally(), bucket="b"
        ).run()
        for plan in (Run.plan_rollback, Run.plan_finalize):
            try:
                plan(Run(registry, self.bucket.settings(), RunOptions(), Tally()))
            except Refused:
                self.history.append("refused")
        assert self.bucket.objects() == before

    def _push(self) -> None:
        made, blobs = self._image("by a client")
        name = self._chance.choice([*self._truth, "brand/new"])
        tag = self._chance.choice(["moved", f"tag-{self._number}"])
        self.history.append(f"push {name}:{tag}")
        if self._is_accepted(lambda registry: push(registry, name, made, blobs, tag)):
            for content in (self._truth, self._served):
                repository = content.setdefault(name, Repository(name))
                _set_tag(repository, tag, made)

    def _untag(self) -> None:
        tagged = [repository for repository in self._served.values() if repository.tags]
        if not tagged:
            return
        name = self._chance.choice(tagged).name
        tag = self._chance.choice(list(self._served[name].tags))
        self.history.append(f"untag {name}:{tag}")
        if self._is_accepted(lambda registry: registry.manifests.untag(name, tag, actor="client")):
            for content in (self._truth, self._served):
                _set_tag(content[name], tag, None)

    def _delete(self) -> None:
        """A manifest that no index lists."""
        found = [
            (name, manifest)
            for name, repository in self._served.items()
            for manifest in repository.manifests
            if not any(manifest.digest in other.children for other in repository.manifests)
        ]
        if not found:
            return
        name, manifest = self._chance.choice(found)
        self.history.append(f"delete {name}@{manifest.digest[:15]}")
        if self._is_accepted(lambda registry: registry.manifests.delete(name, Digest(manifest.digest), actor="client")):
            for content in (self._truth, self._served):
                repository = content[name]
                repository.tags = {tag: made for tag, made in repository.tags.items() if made != manifest}
                repository.untagged = [made for made in repository.untagged if made != manifest]

    def _is_accepted(self, change: Callable[[Registry], object]) -> bool:
        """Whether a registry that has just started takes a change; a bucket that is given back takes none."""
        registry = self.bucket.registry()
        try:
            change(registry)
        except Unavailable:
            # A rollback that died may have said already that it had ended.
            assert self._given_back or self._state() in {Phase.ROLLING_BACK, Phase.ROLLED_BACK}, self._state()
            self.history.append("refused")
            return False
        else:
            # An adoption that died may have begun the next migration, which takes changes.
            begun = self._state() in {Phase.ADOPTING, Phase.ADOPTED}
            assert begun or not self._given_back, "a change that nothing gives back any more"
            return True
        finally:
            if self._chance.random() < 0.5:
                registry.fold_waiting()

    def _push_to_source(self) -> None:
        """A repository that Stowage has after the next pass."""
        if self._state() in GONE:
            return
        made, blobs = self._image("by a client of the source")
        repository = Repository(f"theirs/{self._number}", {"v1": made}, [], blobs)
        self.history.append(f"the source takes {repository.name}")
        for key, data in MAKE[self.bucket.layout]([repository]).items():
            self.bucket.driver.write(key, data)
        self._truth[repository.name] = repository

    def _lose_database(self) -> None:
        rebuilt = self._chance.random() < 0.5
        self.history.append("lose the database" + ", rebuild" * rebuilt)
        self._number += 1
        self.bucket.world.url = f"sqlite:///{self._directory / f'cache-{self._number}.db'}"
        if rebuilt:
            registry = self.bucket.registry()
            assert rebuild_registry(registry).problems == []

    # ----

    def _state(self) -> str:
        return status(self.bucket.driver).state

    def _image(self, note: str) -> tuple[Manifest, list[Blob]]:
        self._number += 1
        config, layer = Blob(f'{{"{note}": {self._number}}}'.encode()), Blob(f"layer {note} {self._number}".encode())
        blobs = [config, layer, self._chance.choice(BLOBS)]
        return image(config, blobs[1:]), blobs


def _set_tag(repository: Repository, tag: str, manifest: Manifest | None) -> None:
    """Move or remove a tag; what it pointed at stays."""
    before = repository.tags.pop(tag, None)
    if manifest is not None:
        repository.tags[tag] = manifest
    if before is not None and before not in repository.manifests:
        repository.untagged.append(before)


def check_repository(registry: Registry, repository: Repository) -> None:
    """What a repository must have is there, and no tag that was ever taken away; others may come from the source."""
    for tag, manifest in repository.tags.items():
        assert registry.manifests.find(repository.name, tag).digest == manifest.digest, (repository.name, tag)
    for manifest in repository.manifests:
        found = registry.manifests.find(repository.name, Digest(manifest.digest))
        assert (registry.manifests.read(found), found.media_type) == (manifest.data, manifest.media_type)
        for digest in manifest.blobs:
            with registry.blobs.read(registry.blobs.open(repository.name, Digest(digest))) as reader:
                assert str(Digest.of(reader.read(1 << 20))) == digest


@pytest.mark.parametrize("layout", MAKE)
def test_what_was_acknowledged_is_served_whatever_was_done(layout: str, tmp_path: Path) -> None:
    announce()
    deaths = 0
    for number in range(WALKS):
        walk = Walk(tmp_path / str(number), layout, f"{SEED} {layout} {number}")
        try:
            walk.check()
            for _ in range(STEPS):
                walk.step()
            walk.finish()
        except Exception as failure:
            raise AssertionError(f"walk {number}: {', '.join(walk.history)}") from failure
        finally:
            walk.bucket.world.close()
        deaths += walk.deaths
    assert deaths >= WALKS // 2, "hardly any command was killed"
