"""*Wrapped reader*: what every ObjectReader around another one has in common.

Tests: ``tests/images/test_verification.py``, ``tests/storage/test_driver_contract.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from registry.storage.driver import ObjectReader


class WrappedReader:
    """An ObjectReader whose class says how it reads on."""

    def __init__(self, inner: ObjectReader) -> None:
        self.stat = inner.stat
        self._inner = inner

    def read(self, size: int) -> bytes:
        """See ObjectReader."""
        return self._inner.read(size)

    def fileno(self) -> int | None:
        """Return None, because a caller that read the file by itself would pass this reader by."""
        return None

    def close(self) -> None:
        """See ObjectReader."""
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
