"""How long the soaks run: a seeded sample, or everything with ``SOAK=full``.

``SOAK_SEED`` repeats a run; the seed in use is printed, so that a failure shows it.
"""

from __future__ import annotations

import os
import secrets

FULL = os.environ.get("SOAK") == "full"
SEED = int(os.environ.get("SOAK_SEED", "0")) or secrets.randbelow(1 << 32)


def budget(sample: int, full: int) -> int:
    """How often something is done: ``full`` times in a full run."""
    return full if FULL else sample


def announce() -> None:
    """Print the seed; pytest shows it with a failure."""
    print(f"SOAK_SEED={SEED} SOAK={'full' if FULL else 'sample'}")  # noqa: T201
