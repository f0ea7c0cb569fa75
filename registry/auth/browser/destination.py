"""*Destination*: where a browser goes after its login: a path of this registry, and never another site."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from registry.oci.errors import RequestInvalid

LONGEST: Final = 1000
"""Characters: a destination travels in a cookie."""
_FORM: Final = re.compile(r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
_EMPTY_OR_DOTS: Final = re.compile(r"/(?:\.{0,2})/|/\.{1,2}\Z")
"""A segment that a browser or a proxy would take out: what is left could begin with two slashes."""


def check_destination(text: str) -> str:
    """The path, perhaps with a query, as it is. Raises RequestInvalid for what could lead to another site.

    The path is also looked at as a proxy sees it that decodes it, however often.
    """
    found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    path = found["path"] if found else ""
    before = None
    while path != before:  # each time it gets shorter
        if not path.isprintable() or "\\" in path or not path.startswith("/") or _EMPTY_OR_DOTS.search(path):
            raise RequestInvalid("next is no path of this registry, such as /auth/login")
        before, path = path, unquote(path)
    return text
