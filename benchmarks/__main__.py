"""Run the benchmarks on local disk and print the table."""

import contextlib
import sys

from benchmarks.rows import ROWS
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import BEFORE, PEERS, SERVERS
from benchmarks.suite import Disk, Suite, main

LOCAL = Suite(
    program="python -m benchmarks",
    description=__doc__,
    rows=ROWS,
    scenarios=SCENARIOS,
    servers=SERVERS,
    peers=(BEFORE, *PEERS),
    stage=lambda directory: contextlib.nullcontext(Disk(directory)),
)

if __name__ == "__main__":
    sys.exit(main(LOCAL))
