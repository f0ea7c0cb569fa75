"""Scale: the amount of work of a run, and the tools of a scenario."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.content import LAYER_BYTES
from benchmarks.wire import Connection

if TYPE_CHECKING:
    from benchmarks.content import Source
    from benchmarks.servers import Running
    from tests.support.s3_server import S3Server

CLIENTS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How much work a run is. The figures of a smaller scale say that the harness works, not how fast anything is."""

    blob_bytes: int = 1 << 30
    read_seconds: float = 2.0
    image_seconds: float = 5.0
    layer_bytes: tuple[int, ...] = LAYER_BYTES
    image_samples: int = 30
    tags_listed: int = 200
    tags_many: int = 10_000
    tags_few: int = 10
    tag_samples: int = 200
    images_first: int = 2_000
    images_last: int = 12_000
    settle_seconds: float = 2.0
    patience_seconds: float = 5.0


QUICK = Scale(
    blob_bytes=8 << 20,
    read_seconds=1.0,
    image_seconds=0.5,
    image_samples=5,
    tags_many=100,
    tag_samples=20,
    images_first=16,
    images_last=64,
    settle_seconds=0.1,
    patience_seconds=0.0,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario works with: the running server, the scale, the source of large blobs, the store beneath."""

    running: Running
    scale: Scale
    source: Source
    store: S3Server | None = None
    beside: tuple[int, ...] = ()
    """Processes that work for the server: the store and the database."""

    def connect(self) -> Connection:
        """Return a new connection to the server."""
        return Connection(self.running.port)
