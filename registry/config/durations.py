"""*Duration*: a number of seconds, which may be written as text with a unit."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

_TEXT: Final = re.compile(r"(?P<number>\d{1,12}(?:\.\d{1,6})?) ?(?P<unit>[smhdw])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(value: object) -> object:
    """``"14d"`` as a number of seconds; what is no text is left as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    found = _TEXT.fullmatch(value)
    if found is not None:
        return float(found["number"]) * _UNITS[found["unit"]]
    try:
        return float(value)  # of the environment, where all is text
    except ValueError:
        raise ValueError('is no duration: a number of seconds, or text such as "90s", "12h" or "14d"') from None


PARSED: Final = BeforeValidator(parse_duration, json_schema_input_type=float | Annotated[str, Field(pattern="^[0-9]")])

Seconds = Annotated[float, PARSED, Field(gt=0, allow_inf_nan=False)]
"""Seconds, more than none."""
SecondsOrNone = Annotated[float, PARSED, Field(ge=0, allow_inf_nan=False)]
"""Seconds; 0 for not at all."""
WholeSeconds = Annotated[int, PARSED]
"""Seconds without a fraction; the caller adds the bounds."""
