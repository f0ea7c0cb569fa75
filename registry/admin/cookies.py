"""*Cookies*: what the registry has a browser keep. None of them is looked at below ``/v2`` and by ``/auth/token``.

Over HTTPS their names begin with ``__Host-`` (RFC 6265bis): no other host, nor a page without TLS, can set them.
Over plain HTTP, which is for this machine and for trials, they have neither that nor Secure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from registry.api.http.routing import context_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SESSION: Final = "session"
"""The secret of a session."""
LOGIN: Final = "login"
"""A login that was begun at a provider."""
FORM: Final = "login-form"
"""A form that was shown."""
HOST: Final = "__Host-"
_VALUE: Final = re.compile(r"[A-Za-z0-9._-]*")
"""Values are secrets and tokens; nothing else gets into a header."""


def find_cookie(request: Request, name: str) -> str:
    """Its value; empty if there is none, or two of which another site may have set one."""
    wanted = _full_name(request, name)
    values = {
        value.strip(" \t")
        for line in request.headers.getlist("cookie")
        for key, equals, value in (part.partition("=") for part in line.split(";"))
        if equals and key.strip(" \t") == wanted
    }
    value = values.pop() if len(values) == 1 else ""
    return value if _VALUE.fullmatch(value) else ""


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    """Have the browser keep a value for so long; it sends it along when a page of another site leads here."""
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the cookie {name} has characters that it must not have")
    full = _full_name(request, name)
    secure = "; Secure" if full.startswith(HOST) else ""
    line = f"{full}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
    response.headers.append("Set-Cookie", line)


def clear_cookie(request: Request, response: Response, name: str) -> None:
    """Have the browser forget it."""
    set_cookie(request, response, name, "", 0)


def _full_name(request: Request, name: str) -> str:
    is_secure = context_of(request).urls.origin(request).startswith("https://")
    return f"{HOST}{name}" if is_secure else name
