"""*Documents*: what a provider answers, asked over HTTPS with bounds: in size, in time, and without detours."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from registry.config.urls import is_trustworthy
from registry.cutoff import Cutoff
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES: Final = 1 << 20
SECONDS: Final = 10.0
"""For connecting, TLS, the answer's head and its body together."""
FORM: Final = "application/x-www-form-urlencoded"
_CHUNK: Final = 64 << 10
_OK: Final = 200
_PORTS: Final = {"http": 80, "https": 443}
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}


@functools.cache
def _of_the_system() -> ssl.SSLContext:
    """Trusts the authorities of the system, which take 20 ms to read: once for all providers."""
    return ssl.create_default_context()


class FetchFailed(Exception):
    """An answer could not be had; the message says why."""


class Documents:
    """The documents of one provider. Any thread."""

    def __init__(self, ca_file: Path | None = None, *, seconds: float = SECONDS) -> None:
        """``ca_file`` has the authorities of the provider's certificate; None for those of the system."""
        self._context = _of_the_system() if ca_file is None else ssl.create_default_context(cafile=ca_file)
        self._seconds = seconds

    def fetch(self, url: str) -> bytes:
        """The body of an answer 200 to GET; redirects are not followed. Raises FetchFailed."""
        status, body = self._ask("GET", url, None, _HEADERS)
        if status != _OK:
            raise FetchFailed(f"the answer has status {status}")
        return body

    def post(self, url: str, form: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer to POST of a form, sent once; redirects are not followed.

        Raises FetchFailed.
        """
        return self._ask("POST", url, form.encode(), {**_HEADERS, "Content-Type": FORM, **headers})

    def _ask(self, method: str, url: str, sent: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if not is_trustworthy(url):
            raise FetchFailed("its address is not https, nor http on this machine")
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            port = parts.port or _PORTS[parts.scheme]
            kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
            with aside, contextlib.ExitStack() as stack:
                connection = stack.enter_context(contextlib.closing(kind(host, port, timeout=self._seconds)))
                raw = socket.create_connection((host, port), self._seconds)
                other = stack.enter_context(raw.dup())  # which stays when TLS takes the first one
                with Cutoff(self._seconds, partial(other.shutdown, socket.SHUT_RDWR)) as cutoff:
                    connection.sock = self._secured(raw, host) if parts.scheme == "https" else raw
                    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
                    connection.request(method, target, sent, headers)
                    answer = connection.getresponse()
                    body = _read(answer)
                    if cutoff.is_over:
                        raise FetchFailed("the answer takes too long")
                    return answer.status, body
        except (HTTPException, OSError, ValueError) as error:
            raise FetchFailed(f"{type(error).__name__} while asking {host}") from error

    def _secured(self, raw: socket.socket, host: str) -> ssl.SSLSocket:
        try:
            return self._context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise


def _read(answer: HTTPResponse) -> bytes:
    body = b""
    while part := answer.read1(_CHUNK):
        body += part
        if len(body) > MAX_BYTES:
            raise FetchFailed(f"the answer has more than {MAX_BYTES} bytes")
    if answer.length:
        raise FetchFailed("the answer is cut")
    return body
