"""*Size*: a number of bytes, which may be written as text with a unit."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

LARGEST: Final = (1 << 62) - 1
"""Bytes: a database can count them twice."""
_TEXT: Final = re.compile(r"(?P<number>\d{1,19}) ?(?P<unit>[KMGTP]i?B|B)?", re.ASCII)
_UNITS: Final[dict[str | None, int]] = {
    None: 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)},
}


def parse_size(value: object) -> object:
    """``"500GiB"`` as a number of bytes; what is no text is left as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    found = _TEXT.fullmatch(value)
    if found is None:
        raise ValueError('is no size: a whole number of bytes, or text such as "10GiB", "500MiB" or "2TB"')
    return int(found["number"]) * _UNITS[found["unit"]]


Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str), Field(ge=1, le=LARGEST)]
"""Bytes, at least one."""
