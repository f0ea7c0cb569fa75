"""The ``registry`` of this environment, whose tokens live for the seconds of its first argument and not one longer.

The settings allow a minute at the least, and the check of a token another one for clocks that differ.
"""

from __future__ import annotations

import sys
from time import time
from typing import TYPE_CHECKING

from registry.auth import jwt
from registry.auth.tokens.token import Tokens
from registry.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.auth.tokens.signing_keys import SigningKeys


def shorten(seconds: int) -> None:
    """Have every token of this process live so long, whatever the settings say."""
    configured = Tokens.__init__

    def begin(
        tokens: Tokens, keys: SigningKeys, service: str, _expires: int, clock: Callable[[], float] = time
    ) -> None:
        configured(tokens, keys, service, seconds, clock)

    jwt.LEEWAY = 0.0  # type: ignore[misc]  # as if clocks agreed
    Tokens.__init__ = begin  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    shorten(int(sys.argv.pop(1)))
    main()
