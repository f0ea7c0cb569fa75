"""*Documents*: what a provider publishes, fetched over HTTPS with bounds: in size, in time, and without detours."""

from __future__ import annotations

import ssl
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from registry.config.urls import is_trustworthy
from registry.waiting import aside

if TYPE_CHECKING:
    from pathlib import Path

    from urllib3 import BaseHTTPResponse

MAX_BYTES: Final = 1 << 20
SECONDS: Final = 10.0
"""For connecting, the answer's head and its body together."""
_CHUNK: Final = 64 << 10
_OK: Final = 200


class FetchFailed(Exception):
    """A document could not be had; the message says why."""


class Documents:
    """The documents of one provider. Any thread."""

    def __init__(self, ca_file: Path | None = None, *, seconds: float = SECONDS) -> None:
        """``ca_file`` has the authorities of the provider's certificate; None for those of the system."""
        self._pool = PoolManager(num_pools=2, ssl_context=ssl.create_default_context(cafile=ca_file), retries=False)
        self._seconds = seconds

    def fetch(self, url: str) -> bytes:
        """The body of an answer 200 to GET; redirects are not followed. Raises FetchFailed."""
        if not is_trustworthy(url):
            raise FetchFailed("its address is not https, nor http on this machine")
        deadline = monotonic() + self._seconds
        timeout = Timeout(total=self._seconds)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            with aside:
                answer = self._pool.request(
                    "GET", url, headers=headers, timeout=timeout, redirect=False, preload_content=False
                )
                try:
                    return _read(answer, deadline)
                finally:
                    answer.close()
        except (HTTPError, OSError, ValueError) as error:
            raise FetchFailed(f"{type(error).__name__} while asking {urlsplit(url).hostname}") from error


def _read(answer: BaseHTTPResponse, deadline: float) -> bytes:
    if answer.status != _OK:
        raise FetchFailed(f"the answer has status {answer.status}")
    body = b""
    while part := answer.read1(_CHUNK):  # what has come: a whole chunk may take an attacker's time
        body += part
        if len(body) > MAX_BYTES:
            raise FetchFailed(f"the answer has more than {MAX_BYTES} bytes")
        if monotonic() > deadline:
            raise FetchFailed("the answer takes too long")
    return body
