"""Start line: what serves where, over what, said once when the port is open.

Tests: ``tests/server/test_log.py``.
"""

from __future__ import annotations

import ipaddress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from registry import DISTRIBUTION

if TYPE_CHECKING:
    from pathlib import Path

    from registry.config.settings import Settings

_POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class StartLine:
    """The line about one start; it has no secret."""

    host: str
    port: int
    workers: int
    storage: str
    version: str
    url: str
    data: str
    """The directory, or the bucket with what all keys begin with."""
    database: str
    config: str

    def fields(self) -> dict[str, object]:
        """For a program."""
        return asdict(self)

    def __str__(self) -> str:
        """For a person."""
        workers = f" · {self.workers} workers" if self.workers > 1 else ""
        return (
            f"Stowage {self.version} · {self.url} · data {self.data} · {self.database} · config: {self.config}{workers}"
        )


def start_line(settings: Settings, host: str, port: int, config: Path | None, *, workers: int) -> StartLine:
    """``host`` and ``port`` are what the socket is bound to, ``config`` is the file, ``workers`` how many serve."""
    scheme = "http" if settings.http.tls is None else "https"
    return StartLine(
        host=host,
        port=port,
        workers=workers,
        storage=settings.storage.driver,
        version=version(DISTRIBUTION),
        url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}",
        data=_data(settings),
        database="PostgreSQL" if settings.database_url.startswith(_POSTGRESQL) else "SQLite",
        config=str(config) if config is not None else "none",
    )


def is_open_to_everybody(settings: Settings, host: str) -> bool:
    """Whether other machines reach the port, and nothing asks them for anything."""
    tls = settings.http.tls
    asks = tls is not None and tls.client_ca is not None and tls.client_auth == "required"
    return not (asks or ipaddress.ip_address(host.partition("%")[0]).is_loopback)


def _data(settings: Settings) -> str:
    storage = settings.storage
    if storage.bucket is None:
        return str(storage.root_directory.absolute())
    return f"{storage.driver}://{storage.bucket.bucket}/{storage.root_directory.as_posix().strip('/')}"
