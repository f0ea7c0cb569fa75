"""A provider of another project: the example server of zitadel/oidc, and a login that fills in its form."""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

from registry.auth.oidc.discovery import DISCOVERY
from tests.support.program import Program
from tests.support.servers import HOST
from tests.support.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = "web"
"""The client that its tokens are for."""
RETURN = "http://localhost:9999/auth/callback"
"""Where it would send a browser; nothing listens there."""


class Zitadel(Program):
    """Has two users; signs with RS256."""

    name: ClassVar[str] = "oidc-provider"

    def __init__(self, directory: Path, *returns: str) -> None:
        """``returns`` are the addresses to which it sends browsers beside RETURN."""
        super().__init__(directory)
        self._returns = ",".join((RETURN, *returns))

    @property
    def issuer(self) -> str:
        """Its ``iss``, which ends with a slash."""
        return f"http://localhost:{self.port}/"

    def command(self) -> list[str]:
        return ["/usr/bin/env", f"PORT={self.port}", f"REDIRECT_URI={self._returns}", str(tool(self.name))]

    def ready(self) -> bool:
        return self.answers(DISCOVERY)

    def login(self, user: str, password: str) -> str:
        """The ID token of a login (OpenID Connect Core 1.0, section 3.2)."""
        asked = {"client_id": CLIENT, "redirect_uri": RETURN, "response_type": "id_token", "nonce": "n", "state": "s"}
        page = self._step("GET", f"/auth?{urlencode({**asked, 'scope': 'openid profile'})}")
        found = re.search(r"authRequestID=([^&]+)", page)
        assert found, page
        form = urlencode({"id": found[1], "username": user, "password": password})
        back = self._step("POST", "/login/username", form)
        return parse_qs(urlsplit(self._step("GET", back)).fragment)["id_token"][0]

    def _step(self, method: str, target: str, form: str = "") -> str:
        """Where one request leads."""
        parts = urlsplit(target)
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        headers = {"Host": f"localhost:{self.port}", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, f"{parts.path}?{parts.query}", form, headers)
        answer = connection.getresponse()
        location = answer.getheader("Location")
        body = answer.read()
        connection.close()
        assert location, (answer.status, body)
        return location
