"""A route that leaves its template in the scope, for metrics and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Match
from starlette.routing import Route as StarletteRoute

if TYPE_CHECKING:
    from starlette.types import Scope


class Route(StarletteRoute):
    """As Starlette's; ``scope["route"]`` is the route that answers, as FastAPI's own routes have it."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Starlette."""
        match, child = super().matches(scope)
        if match is not Match.NONE:
            child["route"] = self
        return match, child
