"""The times of the soak, in seconds: those of a registry, shortened until everything happens within a minute."""

from __future__ import annotations

import random
from typing import Final

from tests.soak.budget import SEED, budget

LEASE: Final = 2.0
GRACE: Final = random.Random(f"grace {SEED}").choice((0.0, 0.5, 1.0))
WINDOW: Final = 3.0
"""``gc.undelete_window``."""
UNTAGGED: Final = 1.0
"""``gc.untagged_after``."""
UPLOAD_EXPIRY: Final = 10.0
CLAIM: Final = 4.0
UNCLEAR: Final = 10.0
"""As fields of ``Policy``, which no setting is for."""
LATE: Final = 3.0
"""A delete that is late comes within this: a store that takes longer than UNCLEAR is not covered."""
SKEW: Final = 90.0
"""How wrong the clock of a machine is, either way."""

CALM: Final = budget(sample=6, full=60)
"""For how long nothing goes wrong: no push may wait, let alone fail."""
ROUGH: Final = budget(sample=12, full=150)
"""For how long collectors are killed and stopped, and deletes are late."""
ENOUGH: Final = 20
"""Things that have to be collected in each of these times, which are longer where a machine is busy."""
PATIENCE: Final = 90.0
"""For how long a client comes again that was asked to: longer than any delete is unclear."""
SETTLE: Final = 240.0
"""After which what is still out of use at the end hangs; a busy machine may need long."""

SETTINGS: Final[dict[str, object]] = {
    "interval": 4.0,
    "rate": None,
    "lease": LEASE,
    "grace": GRACE,
    "undelete_window": WINDOW,
    "untagged_after": UNTAGGED,
    "orphans_after": WINDOW,
}
"""The section ``gc``."""
