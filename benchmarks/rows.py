"""The rows of the table: the compared work, the peers, and the ratio to reach."""

from __future__ import annotations

import dataclasses

from benchmarks.servers import (
    ANGOS,
    BEFORE,
    CEILING,
    DISTRIBUTION,
    DOCKER_REGISTRY,
    ONE_WORKER,
    OURS,
    PEERS,
    UNSYNCED,
    ZOT,
)

OTHERS = (DOCKER_REGISTRY, DISTRIBUTION, ZOT)
NOT_SYNCING = (ZOT, ANGOS)


@dataclasses.dataclass(frozen=True, slots=True)
class Ratio:
    """Ours divided by the best of some peers."""

    least: float
    peers: tuple[str, ...] = PEERS


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of one of our variants beside the peers: a rate, of which more is better, unless ``fewer`` says not."""

    key: str
    work: str
    unit: str
    figure: str
    least: tuple[Ratio, ...]
    want: Ratio | None
    ours: str = OURS
    peers: tuple[str, ...] = PEERS
    fewer: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """A figure of ours alone, smaller is better; without a bound it is only told."""

    key: str
    work: str
    unit: str
    figure: str
    most: float | None = None
    want: float | None = None
    ours: str = OURS


Row = Comparison | Limit
_AS_BEFORE = Ratio(0.95, (BEFORE,))
"""As fast as before, but for what two runs of the same program differ."""


def _read(key: str, work: str, figure: str, least: float) -> Comparison:
    least_ratios = (Ratio(least), Ratio(2.5, OTHERS), _AS_BEFORE)
    return Comparison(key, work, "/s", figure, least_ratios, Ratio(1.0))


def _write(key: str, work: str, figure: str, ours: str, peers: tuple[str, ...] = PEERS) -> Comparison:
    return Comparison(key, work, "MB/s", figure, (Ratio(1.0, peers),), Ratio(1.3, peers), ours, peers)


_WORKER = ", one worker"
_FSYNC = ", fsync off"
_PUSH = "push of a 1 GiB blob"
_PUSHES = "push of 8 blobs of 1 GiB at once"
_PULLS = "8 pulls of 1 GiB at once"
_IMAGES = "image pushes, 8 clients"
_IMAGES_LEAST = (Ratio(2.0, (DISTRIBUTION,)), Ratio(1.2, (ZOT,)))
_AS_ANGOS = Ratio(1.0, (ANGOS,))

ROWS: tuple[Row, ...] = (
    _read("manifest-tag", "GET manifest by tag", "manifest by tag", 1.2),
    _read("manifest-digest", "GET manifest by digest", "manifest by digest", 1.2),
    _read("head-blob", "HEAD blob", "head blob", 1.2),
    Comparison("get-blob", "GET 4 KiB blob", "/s", "get blob", (Ratio(2.0), _AS_BEFORE), Ratio(5.0)),
    Comparison("tags-list", "tags/list of 200", "/s", "tags list", (Ratio(2.0), _AS_BEFORE), Ratio(5.0)),
    Limit(
        "access-token",
        "GET manifest with a token, time against a registry without access",
        "x",
        "token ratio",
        1 / 0.85,
    ),
    Limit("access-password", "the same with a password that was verified before", "x", "password ratio", 1 / 0.75),
    Limit(
        "access-logins",
        "99th percentile of anonymous GET manifest beside 200 logins a second, bcrypt cost 10, against none",
        "x",
        "logins ratio",
        1.3,
    ),
    Limit("push-disk", "no registry: a file of 1 GiB written and synced", "MB/s", "disk alone", ours=CEILING),
    _write("push-one", _PUSH, "push one", OURS),
    _write("push-one-unsynced", _PUSH + _FSYNC, "push one", UNSYNCED, NOT_SYNCING),
    _write("push-eight", _PUSHES, "push eight", OURS),
    _write("push-eight-worker", _PUSHES + _WORKER, "push eight", ONE_WORKER),
    _write("push-eight-unsynced", _PUSHES + _FSYNC, "push eight", UNSYNCED, NOT_SYNCING),
    Comparison("pull-one", "pull of a 1 GiB blob", "MB/s", "pull one", (Ratio(0.9),), Ratio(1.0)),
    Comparison("pull-eight", _PULLS, "MB/s", "pull eight", (Ratio(0.5),), Ratio(1.0)),
    Comparison("pull-eight-worker", _PULLS + _WORKER, "MB/s", "pull eight", (Ratio(0.5),), Ratio(1.0), ONE_WORKER),
    Comparison("images", _IMAGES, "/s", "images", _IMAGES_LEAST, _AS_ANGOS),
    Comparison(
        "images-processor",
        "the same: processor time for one",
        "ms",
        "image processor ms",
        (Ratio(1 / 0.75, (BEFORE,)),),
        Ratio(1.0),
        fewer=True,
    ),
    Comparison("images-worker", _IMAGES + _WORKER, "/s", "images", (), _AS_ANGOS, ONE_WORKER),
    Comparison(
        "images-worker-processor",
        "the same: processor time for one",
        "ms",
        "image processor ms",
        (Ratio(1 / 0.75, (BEFORE,)),),
        Ratio(1.0),
        ONE_WORKER,
        fewer=True,
    ),
    Comparison("images-unsynced", _IMAGES + _FSYNC, "/s", "images", (), _AS_ANGOS, UNSYNCED, NOT_SYNCING),
    Limit("tag-ratio", "one more tag in 10,000, against one in 10", "x", "tag ratio", 2.0, 1.2),
    Limit("tag-few", "the same, median in a repository of 10", "ms", "tag few"),
    Limit("tag-many", "the same, median in a repository of 10,000", "ms", "tag many"),
    Limit("tag-many-p99", "the same, 99th percentile in 10,000", "ms", "tag many p99"),
    Limit(
        "memory-peak",
        "peak memory of one worker, 8 blobs of 1 GiB pushed and pulled",
        "MiB",
        "peak",
        200.0,
        ours=ONE_WORKER,
    ),
    Limit(
        "memory-growth",
        "memory growth of one worker over 10,000 image pushes after 2,000, 100 to a repository",
        "MiB",
        "growth",
        5.0,
        ours=ONE_WORKER,
    ),
    Limit("memory-after", "the same, resident at the end", "MiB", "growth to", ours=ONE_WORKER),
)


def select(words: list[str], rows: tuple[Row, ...] = ROWS) -> tuple[Row, ...]:
    """Return the rows whose key contains one of the words; all when there are none."""
    return tuple(row for row in rows if not words or any(word in row.key for word in words))
