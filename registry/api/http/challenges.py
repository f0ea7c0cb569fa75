"""*Challenges*: where a client that is refused gets a token, and for what (RFC 6750, section 3).

There is one challenge on each answer 401, and it is Bearer: of two, several clients understand neither.

Tests: ``tests/api/test_guard.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.http.urls import ExternalUrls
    from registry.config.token_sections import TokenSettings
    from registry.oci.errors import Unauthorized

PATH: Final = "/auth/token"
HEADER: Final = "WWW-Authenticate"
_NOT_QUOTED: Final = '"\\'


class Challenges:
    """Adds them to errors."""

    def __init__(self, urls: ExternalUrls, settings: TokenSettings | None, service: str) -> None:
        """``settings`` is None where no authentication is configured: there is none to ask for then."""
        self._urls = urls
        self._settings = settings
        self._service = service

    def add(self, request: Request, error: Unauthorized) -> None:
        """Add the challenge to an error that has none."""
        if self._settings is None or HEADER in error.headers:
            return
        external = self._settings.external
        realm = self._urls.absolute(request, PATH) if external is None else external.realm
        parameters = {
            "realm": realm,
            "service": self._service if external is None else external.service,
            "scope": error.scope,
            "error": error.problem,
        }
        given = (f'{name}="{_quotable(value)}"' for name, value in parameters.items() if value)
        error.headers[HEADER] = f"Bearer {','.join(given)}"


def _quotable(text: str) -> str:
    """What may stand in quotes in a header; a path that is no name of a repository may have any character."""
    return "".join(each for each in text if each.isascii() and each.isprintable() and each not in _NOT_QUOTED)
