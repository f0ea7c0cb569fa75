"""Rows of the table over S3: the compared work, and the ratio to reach."""

from __future__ import annotations

from benchmarks.rows import Comparison, Limit, Ratio, Row
from benchmarks.s3.servers import ASKING, EVERY_PEER, PEERS, THREE_WORKERS, TWO_WORKERS
from benchmarks.servers import OURS, ZOT


def _row(
    key: str, work: str, unit: str, figure: str, least: float | None, ours: str = OURS, *, fewer: bool = False
) -> Comparison:
    return _compared(key, work, unit, figure, least, PEERS, ours=ours, fewer=fewer)


def _read(key: str, work: str, figure: str, least: float, peers: tuple[str, ...] = EVERY_PEER) -> Comparison:
    return _compared(key, work, "/s", figure, least, peers)


def _compared(
    key: str,
    work: str,
    unit: str,
    figure: str,
    least: float | None,
    peers: tuple[str, ...],
    *,
    ours: str = OURS,
    fewer: bool = False,
) -> Comparison:
    targets = () if least is None else (Ratio(least, peers),)
    return Comparison(key, work, unit, figure, targets, None, ours, peers, fewer)


_TWO = ", two workers"
_THREE = ", three workers"
_EIGHT = "8 blobs of 1 GiB at once"
_IMAGES = "image pushes, 8 clients"
_FAR = ", store 30 ms away"

S3_ROWS: tuple[Row, ...] = (
    _read("manifest-tag", "GET manifest by tag", "manifest by tag", 5.0),
    _read("manifest-digest", "GET manifest by digest", "manifest by digest", 5.0),
    _read("head-blob", "HEAD blob", "head blob", 5.0),
    _read("head-blob-asked", "HEAD blob, of registries that ask the store", "head blob", 5.0, (ASKING, ZOT)),
    _compared("head-blob-us", "HEAD blob: processor time for one", "µs", "head blob us", 5.0, EVERY_PEER, fewer=True),
    _read("tags-list", "tags/list of 200", "tags list", 5.0),
    _read("get-blob", "GET 4 KiB blob", "get blob", 2.0),
    _row("push-one", "push of a 1 GiB blob", "MB/s", "push one", 1.5),
    _row("push-eight", f"push of {_EIGHT}", "MB/s", "push eight", 1.5),
    _row("push-eight-workers", f"push of {_EIGHT}{_TWO}", "MB/s", "push eight", 1.5, TWO_WORKERS),
    _row("pull-one", "pull of a 1 GiB blob", "MB/s", "pull one", 1.0),
    _row("pull-eight", f"pull of {_EIGHT}", "MB/s", "pull eight", 1.0),
    _row("pull-eight-workers", f"pull of {_EIGHT}{_TWO}", "MB/s", "pull eight", 1.0, TWO_WORKERS),
    _row("redirect-blob", "GET 4 KiB blob, redirected: the answer 307", "/s", "redirect blob", None),
    _row("redirect-pull", "pull of a 1 GiB blob, redirected", "MB/s", "redirect pull", None),
    _row("images", _IMAGES, "/s", "images", 3.0),
    _row("images-two", _IMAGES + _TWO, "/s", "images", 3.0, TWO_WORKERS),
    _row("images-three", _IMAGES + _THREE, "/s", "images", 3.0, THREE_WORKERS),
    _row("far-images", _IMAGES + _FAR, "/s", "far images", 5.0),
    _row("far-images-two", _IMAGES + _FAR + _TWO, "/s", "far images", 5.0, TWO_WORKERS),
    _row("image-seconds", "one image push, one client", "ms", "image ms", None, fewer=True),
    _row("far-image-seconds", f"one image push, one client{_FAR}", "ms", "far image ms", None, fewer=True),
    _row("image-calls", "calls to the store for one image push", "calls", "image calls", None, fewer=True),
    Limit("memory", "peak memory, 8 blobs of 1 GiB pushed and pulled at once", "MiB", "peak", 400.0),
)
