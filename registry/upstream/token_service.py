"""*Token service*: gives a token for a scope (the token authentication of registries, and OAuth 2 beside it).

Tests: ``tests/upstream/test_authenticator.py``.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from registry.oci import strict_json
from registry.upstream.errors import AnswerInvalid, TokenUnavailable, UpstreamDenied, UpstreamUnavailable
from registry.upstream.rate_limit import retry_after
from registry.upstream.url import Url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry.upstream.answer import Answer
    from registry.upstream.credentials.credential import Credential
    from registry.upstream.tokens import TokenKey

    Follow = Callable[[Url, Mapping[str, str], float], Answer]

LARGEST: Final = 256 << 10
SECONDS: Final = 30.0
"""For the body of the answer."""
DEFAULT_LIFE: Final = 60.0
_LONGEST_LIFE: Final = 86400.0
_TOKEN: Final = re.compile(r"[!-~]{1,131072}")


def ask_for_token(
    follow: Follow, realm: Url, key: TokenKey, credential: Credential | None, seconds: float
) -> tuple[str, float]:
    """A token, and the seconds for which it is good from when it was asked for.

    ``follow`` sends the request within ``seconds`` and follows redirects. Raises TokenUnavailable where none can be
    had, UpstreamDenied where this scope is refused, AddressRefused.
    """
    fields = [*([("service", key.service)] if key.service else []), *(("scope", each) for each in key.scope.split())]
    query = urlencode(fields)
    mark = "&" if "?" in realm.target else "?"
    url = Url(realm.origin, f"{realm.target}{mark}{query}" if query else realm.target)
    headers = {"Accept": "application/json", **({"Authorization": credential.basic} if credential is not None else {})}
    host = realm.origin.host
    try:
        answer = follow(url, headers, seconds)
        _require_token(answer, host, has_credential=credential is not None)
        return _token_of(answer.document(LARGEST, min(seconds, SECONDS)), host)
    except TokenUnavailable:
        raise
    except (UpstreamUnavailable, AnswerInvalid) as error:
        raise TokenUnavailable(f"no token from {error}") from error


def _require_token(answer: Answer, host: str, *, has_credential: bool) -> None:
    status = answer.status
    if status == 200:  # noqa: PLR2004 - OK
        return
    answer.drain()
    if status == 403 or (status == 401 and not has_credential):  # noqa: PLR2004 - forbidden, unauthorized
        raise UpstreamDenied(f"{host} gives no token for this: status {status}")
    if status == 401:  # noqa: PLR2004 - unauthorized
        raise TokenUnavailable(f"{host} refuses the credentials")
    raise TokenUnavailable(f"{host} gives no token: status {status}", retry_after(answer.headers, time.time()))


def _token_of(data: bytes, host: str) -> tuple[str, float]:
    try:
        document: Any = strict_json.loads(data)
    except strict_json.StrictJSONError:
        raise TokenUnavailable(f"{host} gives no token: its answer is no JSON") from None
    fields = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise TokenUnavailable(f"{host} gives no token: its answer has none that can be sent")
    seconds = fields.get("expires_in")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        seconds = DEFAULT_LIFE
    return token, min(float(seconds), _LONGEST_LIFE)
