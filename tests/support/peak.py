"""``python -m tests.support.peak FILE ARGUMENT...``: the command ``registry``, and in FILE the most memory it had.

What the system says of a process that has ended counts the memory of the one that started it, too.
"""

from __future__ import annotations

import atexit
import re
import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most memory that this process has had."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


if __name__ == "__main__":
    from registry.cli.main import main

    file = Path(sys.argv[1]).resolve()
    atexit.register(lambda: file.write_text(str(peak_bytes())))
    sys.argv = ["registry", *sys.argv[2:]]
    main()
