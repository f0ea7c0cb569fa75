"""What requests and bytes cost, by the table of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from registry.config import PricesSettings
    from registry.migration.review.requests import Requests

GIB: Final = 1 << 30
_DECIMALS: Final = 6


class Prices:
    """US dollars, or whatever currency the table is in."""

    def __init__(self, settings: PricesSettings) -> None:
        self._settings = settings

    def of(self, requests: Requests, read_bytes: int = 0) -> float:
        """Of requests, and of the bytes that leave the store for us."""
        settings = self._settings
        asked = (
            requests.list * settings.lists
            + requests.head * settings.heads
            + requests.get * settings.gets
            + requests.put * settings.puts
            + requests.copy * settings.copies
            + requests.delete * settings.deletes
        )
        return round(asked / 1000 + read_bytes / GIB * settings.gib_read, _DECIMALS)

    def month(self, size: int) -> float:
        """Of keeping so many bytes for a month."""
        return round(size / GIB * self._settings.gib_month, _DECIMALS)
