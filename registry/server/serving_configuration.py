"""Serving configuration: uvicorn's, with bounds of connections and the loop that keeps them.

Tests: ``tests/server/test_bounds.py``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from registry.server.bounded_loop import BoundedLoop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from registry.config.sections import HttpSettings
    from registry.server.balance import Balance
    from registry.server.tls_files import TlsFiles


class ServingConfiguration(uvicorn.Config):
    """Made before the workers are; each makes its own loop."""

    def __init__(
        self,
        application: Callable[..., Any],
        http_settings: HttpSettings,
        tls: TlsFiles | None = None,
        **options: Any,  # noqa: ANN401 - uvicorn's
    ) -> None:
        super().__init__(application, **options)
        self.http_settings = http_settings
        self._tls = tls
        self.balance: Balance | None = None
        """That of several processes."""

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """See uvicorn."""
        return partial(BoundedLoop, self.http_settings, self._tls, self.balance)
