"""Run the benchmarks over one S3 store and print the table."""

import dataclasses
import sys

from benchmarks.s3.environment import stage
from benchmarks.s3.rows import S3_ROWS
from benchmarks.s3.scenarios import S3_SCENARIOS
from benchmarks.s3.servers import EVERY_PEER, S3_SERVERS
from benchmarks.scale import QUICK, Scale
from benchmarks.suite import Suite, main
from tests.support.tools import find_tool

NEEDED = ("versitygw", "wrk", "initdb", "pg_ctl", "postgres")
_LAYERS = (12 << 10, 48 << 10)

OVER_S3 = Suite(
    program="python -m benchmarks.s3",
    description=__doc__,
    rows=S3_ROWS,
    scenarios=S3_SCENARIOS,
    servers=S3_SERVERS,
    peers=EVERY_PEER,
    stage=stage,
    scale=dataclasses.replace(Scale(), image_seconds=10.0, layer_bytes=_LAYERS),
    quick=dataclasses.replace(QUICK, blob_bytes=24 << 20, image_seconds=3.0, layer_bytes=_LAYERS),
    notes=(
        "One versitygw on loopback under all, each over a bucket of its own; ours with PostgreSQL, fsync on.",
        "An image is a config and layers of 12 and 48 KiB, pushed by ten requests.",
    ),
)

if __name__ == "__main__":
    if missing := [name for name in NEEDED if find_tool(name) is None]:
        sys.exit(f"missing: {', '.join(missing)}; `make dev-s3` says how to install them")
    sys.exit(main(OVER_S3))
