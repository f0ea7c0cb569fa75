"""*Shifted program*: ``registry`` on a machine with a wrong clock, and with short waits of the deletion protocol.

python shifted_program.py SKEW CLAIM UNCLEAR serve --config FILE
"""

from __future__ import annotations

import functools
import sys
import time


def main() -> None:
    """Take the first three arguments, and do what ``registry`` does with the rest."""
    skew, claim, unclear = map(float, sys.argv[1:4])
    del sys.argv[1:4]
    del sys.path[0]  # this folder, whose names are not those of programs
    right = time.time
    time.time = lambda: right() + skew

    from registry.cli.main import main as program
    from registry.images import registry
    from registry.images.backends import Policy

    vars(registry)["Policy"] = functools.partial(Policy, claim=claim, unclear=unclear)
    program()


if __name__ == "__main__":
    main()
