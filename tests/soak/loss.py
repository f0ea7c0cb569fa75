"""What no soak may ever see: acknowledged content that is gone or other than it was."""

from __future__ import annotations


class Loss(AssertionError):
    """Acknowledged content is gone or wrong. CI does not run such a test again to see whether it passes alone."""


def require_kept(condition: bool, *what: object) -> None:
    """Raise `Loss` with what was looked at, unless the condition holds."""
    if not condition:
        raise Loss(*what)
