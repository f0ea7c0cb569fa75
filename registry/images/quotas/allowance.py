"""*Allowance*: the bytes that an upload may have while it is not known what it will be.

Tests: ``tests/images/quotas/test_usage.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from registry.images.quotas.usage import QuotaUsage


class Allowance:
    """How many bytes that are. For one thread at a time."""

    def __init__(self, usage: QuotaUsage, repository: str, session: str) -> None:
        self._usage = usage
        self._repository = repository
        self._session = session
        self._most = usage.left(repository, session)

    @classmethod
    def of(cls, usage: QuotaUsage, repository: str, session: str) -> Self | None:
        """That of an upload session of a repository. None if this is under no quota."""
        return cls(usage, repository, session) if usage.applies(repository) else None

    def require(self, size: int) -> None:
        """Return if the upload may have as many bytes. Raises QuotaExceeded, Unavailable."""
        if size > self._most:
            self._most = self._usage.most(self._repository, size, self._session)
