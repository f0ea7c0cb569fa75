"""*Content*: what a leader reads from an upstream, whatever that is, and why it may end without the whole.

Tests: ``tests/images/fetching/test_hub.py``, ``tests/mirror/test_remote_blob.py``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from hashlib import _Hash


class Reason(enum.StrEnum):
    """Why a fetch ended without its blob: what rows, logs and answers to clients tell."""

    UNAVAILABLE = "unavailable"
    """The upstream does not answer, or breaks off again and again."""
    THROTTLED = "throttled"
    """It wants fewer requests."""
    DENIED = "denied"
    """It refuses the request."""
    ABSENT = "absent"
    """It does not have the blob."""
    INVALID = "invalid"
    """What it sends cannot be used: another size, or other bytes again and again."""
    WRONG = "wrong"
    """Its bytes do not have the digest."""
    STORAGE = "storage"
    """Our store or database does not take the bytes."""
    CUT = "cut"
    """The client has bytes that are perhaps not those of the blob."""
    STOPPED = "stopped"
    """This process ends."""

    @classmethod
    def parse(cls, text: str | None) -> Reason:
        """As a row has it: a later release beside this one may know more reasons."""
        return next((reason for reason in cls if reason == text), cls.UNAVAILABLE)

    @property
    def is_of_repository(self) -> bool:
        """Whether it is what the upstream says of one repository: another one of it may have the blob."""
        return self is Reason.DENIED or not self.is_kept

    @property
    def is_kept(self) -> bool:
        """Whether the bytes so far are of use to the next leader."""
        return self not in {Reason.ABSENT, Reason.INVALID, Reason.WRONG}


class FetchFailed(Exception):
    """A fetch ended without its blob."""

    def __init__(self, reason: Reason, message: str, seconds: float | None = None) -> None:
        """``seconds`` after which it may work; None if that is not known."""
        super().__init__(message)
        self.reason = reason
        self.seconds = seconds


class ProofNeeded(Exception):
    """Bytes come for another repository; a client has them once its own upstream repository is known to have them."""


class ContentReplaced(Exception):
    """What comes now, or what was kept, does not belong to the rest: the whole has to be read from its beginning."""


class Content(Protocol):
    """The bytes of one file of an upstream from an offset on. A context manager. For one thread.

    What waits in it ends with the thread's interruption: it raises Interrupted then.
    """

    @property
    def size(self) -> int | None:
        """Bytes of the whole; None while it is not known."""
        ...

    @property
    def etag(self) -> str | None:
        """As it was sent; None where it was not."""
        ...

    @property
    def media_type(self) -> str | None:
        """Content-Type; None where it was not sent."""
        ...

    def open(self) -> None:
        """Send the request: what is told of the file is known then. Raises FetchFailed, ContentReplaced."""
        ...

    def read(self, size: int) -> bytes:
        """What has come, at most ``size`` bytes, which the hash has seen; empty at the end of the whole file.

        It goes on by itself where a connection breaks. Raises FetchFailed, ContentReplaced.
        """
        ...

    def close(self) -> None:
        """Give the connection back, or cut it where bytes are left."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class Source(Protocol):
    """Where a blob comes from: a path of an upstream. Any thread."""

    def content(self, hasher: _Hash, *, offset: int, size: int | None, etag: str | None) -> Content:
        """The content from ``offset`` on; ``hasher`` has seen the bytes before. Nothing is sent yet.

        ``size`` and ``etag`` of the whole are as an earlier leader was told.
        """
        ...

    def part(self, hasher: _Hash, *, begin: int, stop: int | None) -> Content:
        """The bytes from ``begin`` to ``stop`` or to the end, which ``hasher`` sees. Nothing is sent yet."""
        ...

    def miss(self) -> None:
        """It was asked, and does not have the blob: further requests for it need not be sent for a while."""
        ...
