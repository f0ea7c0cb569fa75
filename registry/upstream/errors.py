"""*Errors* of the client for upstreams. No message has a path, a query, a token or a password: hosts alone are named.

Tests: ``tests/upstream/test_client.py``, ``tests/upstream/test_download.py``.
"""

from __future__ import annotations


class UpstreamError(Exception):
    """A request to an upstream gave nothing that can be used; the message says why, for the log and for operators."""


class UpstreamUnavailable(UpstreamError):
    """No answer, or one that says that the server has a problem: the same request may work later."""


class UpstreamSilent(UpstreamUnavailable):
    """No answer, or no rest of one, in the time that it may take."""


class UpstreamThrottled(UpstreamUnavailable):
    """The upstream wants fewer requests."""

    def __init__(self, message: str, seconds: float | None) -> None:
        """``seconds`` for which it wants none; None if it does not say."""
        super().__init__(message)
        self.seconds = seconds


class TokenUnavailable(UpstreamUnavailable):
    """The credentials, or a token for them, cannot be had: it says nothing about what was asked for."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        """``seconds`` for which the realm wants no request; None if it does not say."""
        super().__init__(message)
        self.seconds = seconds


class UpstreamDenied(UpstreamError):
    """The upstream refuses this request with a token that is new, or without credentials."""


class UpstreamStatus(UpstreamError):
    """The upstream has no content here: 404, or another status that no repetition changes."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class AddressRefused(UpstreamError):
    """The upstream names an address that no mirror may connect to; the message says which rule refuses it."""


class AnswerInvalid(UpstreamError):
    """The answer cannot be used: too large, encoded, a redirect to nowhere, a length that is none."""


class ContentChanged(UpstreamError):
    """The rest of the content does not belong to what was read before: it has to be read from the beginning."""
