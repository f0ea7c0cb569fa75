"""*Scrub section* of the settings: how often every object is read again, and how fast.

Tests: ``tests/config/test_settings.py``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.config.durations import SecondsOrNone  # noqa: TC001 - pydantic reads it
from registry.config.sections import Section
from registry.config.sizes import Size  # noqa: TC001 - as above


class ScrubSettings(Section):
    """Reading every object again and comparing it with its digest."""

    interval: Annotated[SecondsOrNone, Field(gt=0)] | None = None
    """Seconds, or text such as "30d", from the begin of a round to that of the next; null: only the command scrubs."""
    rate: Size = 32 << 20
    """Bytes, or text such as "100MiB", that one scrub reads in a second at most."""
    requests: float = Field(default=100, gt=0, allow_inf_nan=False)
    """Requests to the store that one scrub makes in a second at most."""
