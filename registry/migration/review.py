"""Looking at a bucket before it is migrated: everything is read that has to be, and nothing is written."""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from registry.config_file import ConfigError
from registry.config_file import Problem as Mistake
from registry.migration.checks import Checks
from registry.migration.counts import Counting, Counts, Work
from registry.migration.detection import classify, detect
from registry.migration.distribution import ROOT
from registry.migration.estimate import Estimating, Rate
from registry.migration.manifest_reading import ManifestReading
from registry.migration.plan import Plan
from registry.migration.prices import Prices
from registry.migration.problem import Note, Problem, ProblemKind
from registry.migration.progress import Progress, silent
from registry.migration.requests import Tally
from registry.migration.snapshot import Snapshot
from registry.migration.verification import verify
from registry.migration.workers import Workers
from registry.oci.errors import NameInvalid
from registry.oci.name import parse_name
from registry.storage.drivers import open_driver
from registry.storage.errors import StoreRefused

if TYPE_CHECKING:
    from registry.config import Settings
    from registry.migration.original_layout import Located, OriginalLayout, OriginalRepository
    from registry.migration.progress import OnProgress
    from registry.storage.driver import StorageDriver

Verify = Literal["sizes", "full"]
_MANIFEST_BYTES = 8 << 20
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What a review is asked for."""

    verify: Verify = "sizes"
    """``full`` hashes every object that has bytes of a blob."""
    single_prefix: bool = False
    """A repository below the name of the root is one of that name, not one below a root that was applied twice."""
    rate: float | None = None
    """Requests per second for which times are told too."""


def review(settings: Settings, options: Options, on_progress: OnProgress = silent) -> Plan:
    """Review the bucket that the settings name, which may be in use meanwhile. Writes nothing; needs no database.

    Raises ConfigError (a driver that has no bucket, a bucket that cannot be used, or one without a registry's layout),
    BothLayouts, StorageError.
    """
    driver_name = settings.storage.driver
    bucket = getattr(settings.storage, driver_name, None)
    if driver_name == "local":
        message = "a local directory already has the layout that Stowage serves: registry serve takes it as it is"
        raise ConfigError([Mistake("storage.driver", message, "")])
    tally = Tally()
    try:
        driver = open_driver(settings, tally.observe)
        try:
            return Review(driver, settings, options, tally, on_progress, bucket=bucket.bucket if bucket else "").run()
        finally:
            driver.close()
    except StoreRefused as error:
        raise ConfigError([Mistake(f"storage.{driver_name}", error.reason, "")]) from error


class Review:
    """One review of one bucket."""

    def __init__(
        self,
        driver: StorageDriver,
        settings: Settings,
        options: Options,
        tally: Tally,
        on_progress: OnProgress = silent,
        *,
        bucket: str = "",
    ) -> None:
        """``tally`` is what observes ``driver``."""
        self._driver = driver
        self._settings = settings
        self._options = options
        self._tally = tally
        self._on_progress = on_progress
        self._bucket = bucket
        root = settings.storage.root_directory.as_posix()
        self._root = "" if root == "." else root.strip("/")

    def run(self) -> Plan:
        """See ``review``."""
        began = time.perf_counter()
        with Snapshot() as snapshot, Workers(self._settings.migration.parallel) as workers:
            listed = snapshot.fill(self._driver, classify, lambda count: self._on_progress(Progress("listing", count)))
            reading = time.perf_counter()
            layout = detect(snapshot, self._driver, workers, root=self._root, single_prefix=self._options.single_prefix)
            if layout is None:
                return self._plan(None, listed, Counts(), Work(), reading - began, 0.0, (0, 0.0))
            problems, notes = self._read_repositories(snapshot, layout, workers)
            manifests = ManifestReading(
                snapshot, self._driver, layout, workers,
                max_bytes=max(self._settings.manifests.max_bytes, _MANIFEST_BYTES),
            )  # fmt: skip
            problems += manifests.run(self._on_progress)
            checks = Checks(snapshot, self._driver, layout, workers)
            checks.gather()
            problems += checks.problems()
            read = time.perf_counter()
            hashed = 0
            if self._options.verify == "full":
                found, hashed = verify(snapshot, self._driver, workers, self._on_progress)
                problems += found
            hashing = time.perf_counter() - read
            counting = Counting(snapshot, layout)
            plan = self._plan(
                layout, listed, counting.counts(), counting.work(self._driver.capabilities.copy_bytes),
                reading - began, read - reading, (hashed, hashing),
            )  # fmt: skip
            plan.notes = [*notes, *checks.notes()]
            plan.stays = counting.stays()
            plan.problems = sorted(set(problems))
            plan.repositories = list(counting.repositories())
            plan.shards = list(counting.shards())
        return plan

    def _read_repositories(
        self, snapshot: Snapshot, layout: OriginalLayout, workers: Workers
    ) -> tuple[list[Problem], list[Note]]:
        problems: list[Problem] = []
        candidates = []
        by_name: dict[str, list[Located]] = defaultdict(list)
        for located in layout.repositories(snapshot):
            problem = _name_problem(located, layout)
            if problem is None:
                candidates.append(located)
            elif _may_be_ours(problem, located) and layout.read(located, snapshot, self._driver) is None:
                snapshot.put("ours", [(located.path,)])
            else:
                problems.append(problem)
        read = partial(layout.read, snapshot=snapshot, driver=self._driver)
        for done, (located, found) in enumerate(zip(candidates, workers.each(read, candidates), strict=True), 1):
            self._on_progress(Progress("repositories", done, len(candidates)))
            if found is None:
                snapshot.put("ours", [(located.path,)])
                continue
            problems += found.problems
            if found.is_unreadable:
                continue
            by_name[located.name].append(located)
            if len(by_name[located.name]) == 1:
                _note(snapshot, found)
        for name, places in by_name.items():
            if len(places) > 1:
                problems.append(_collision(name, places))
                _forget(snapshot, name)
        return problems, _two_prefixes(by_name)

    def _plan(
        self,
        layout: OriginalLayout | None,
        listed: int,
        counts: Counts,
        work: Work,
        listing: float,
        reading: float,
        hashed: tuple[int, float],
    ) -> Plan:
        made = self._tally.requests
        asked = made.total - made.list
        rate = Rate(
            requests_per_second=round(asked / reading, 1) if asked and reading else None,
            seconds_per_listing=round(listing / max(1, made.list), 6),
            bytes_per_second=round(hashed[0] / hashed[1], 1) if hashed[0] and hashed[1] else None,
        )
        prices = Prices(self._settings.migration.prices)
        estimate = Estimating(work, counts, listed, prices, rate, self._options.rate).estimate(
            made,
            counts.manifest_bytes + hashed[0],
            listing + reading + hashed[1],
            self._driver.capabilities,
            link_requests=layout.link_requests if layout else 0,
        )
        return Plan(
            layout=layout.kind if layout else None,
            prefixes=layout.prefixes if layout else (),
            driver=self._driver.name,
            bucket=self._bucket,
            root=self._root,
            verify=self._options.verify,
            made=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            listed=listed,
            counts=counts,
            stays=[],
            estimate=estimate,
            rate=rate,
            extra_bytes=work.uncopied_bytes,
            extra_price=prices.month(work.uncopied_bytes),
            freed_bytes=work.deleted_bytes,
        )


def _name_problem(located: Located, layout: OriginalLayout) -> Problem | None:
    """Why there can be no repository of that name here."""
    where = f"{located.prefix}/repositories/{located.path}/" if located.prefix == ROOT else f"{located.path}/"
    for prefix in layout.prefixes:
        if located.name == prefix or located.name.startswith(f"{prefix}/"):
            detail = f"its keys would lie below {prefix}/, where those of the original are"
            return Problem(ProblemKind.NAME_COLLISION, located.name, where, "", detail)
    try:
        parse_name(located.name)
    except NameInvalid as error:
        return Problem(ProblemKind.INVALID_NAME, located.name, where, "", error.message)
    return None


def _may_be_ours(problem: Problem, located: Located) -> bool:
    """Stowage has no repository of a name that it refuses, but may have one that only looks like the original's."""
    return problem.kind is ProblemKind.NAME_COLLISION and not located.has_blobs


def _note(snapshot: Snapshot, found: OriginalRepository) -> None:
    snapshot.put("repository", [(found.path, found.name, found.prefix, found.index_key, found.index_signature)])
    snapshot.put("tag", [(found.name, tag, digest) for tag, digest in found.tags.items()])
    snapshot.put(
        "member",
        [
            (found.name, digest, descriptor and descriptor.media_type, descriptor and descriptor.size)
            for digest, descriptor in found.manifests.items()
        ],
    )


def _forget(snapshot: Snapshot, name: str) -> None:
    snapshot.do("DELETE FROM repository WHERE name = ?", name)
    snapshot.do("DELETE FROM tag WHERE repository = ?", name)
    snapshot.do("DELETE FROM member WHERE repository = ?", name)


def _collision(name: str, places: list[Located]) -> Problem:
    where = " and ".join(f"{place.path}/" for place in places)
    detail = f"the repository is there twice, at {where}; neither is taken"
    return Problem(ProblemKind.NAME_COLLISION, name, f"{places[0].path}/", "", detail)


def _two_prefixes(by_name: dict[str, list[Located]]) -> list[Note]:
    """A root that was applied twice looks like a repository below the name of the root: say what it was taken for."""
    below = [place.path for places in by_name.values() for place in places if place.prefix and place.prefix != ROOT]
    beside = [place.path for places in by_name.values() for place in places if not place.prefix]
    if not below or not beside:
        return []
    examples = ", ".join(below[:_EXAMPLES])
    detail = (
        f"repositories below a root that was applied twice ({examples}) beside others ({beside[0]}, ...); if the first "
        "are repositories of these very names, say --single-prefix"
    )
    return [Note("two-prefixes", len(below), detail)]
