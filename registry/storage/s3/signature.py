"""Signatures: requests and addresses that S3 accepts, as botocore makes them."""

from __future__ import annotations

import hmac
import threading
import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, NoCredentialsError

from registry.storage.s3.responses import error_of_exception

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.credentials import Credentials, ReadOnlyCredentials

    from registry.storage.s3.endpoint import Endpoint

UNSIGNED = "UNSIGNED-PAYLOAD"
"""In place of the SHA-256 of a body that is not signed."""
_ALGORITHM = "AWS4-HMAC-SHA256"


def path_of(key: str) -> str:
    """A key as it stands in the path of a request."""
    return quote(key, safe="/-_.~")


def query_of(parameters: Mapping[str, str]) -> str:
    """Parameters in the form that is both sent and signed."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(parameters[name], safe='-_.~')}" for name in sorted(parameters))


class Signature:
    """Signs requests to one service in one region. Any thread."""

    def __init__(self, region: str, service: str = "s3") -> None:
        self._region = region
        self._service = service
        self._known: tuple[str, str, bytes] = ("", "", b"")

    def headers(
        self,
        credentials: ReadOnlyCredentials,
        method: str,
        target: str,
        headers: Mapping[str, str],
        *,
        payload: str,
        at: float | None = None,
    ) -> dict[str, str]:
        """All headers of a request: those given, whose names are in lower case and ``host`` among them, are signed.

        ``target`` is a path and, behind a question mark, what ``query_of`` made; ``payload`` the SHA-256 of the body in
        hexadecimal digits, or UNSIGNED. ``at``, in seconds since the epoch, is now unless given.
        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        signed = {**headers, "x-amz-content-sha256": payload, "x-amz-date": stamp}
        if credentials.token is not None:
            signed["x-amz-security-token"] = credentials.token
        names = sorted(signed)
        path, _, query = target.partition("?")
        lines = (method, path, query, *(f"{name}:{' '.join(signed[name].split())}" for name in names), "")
        scope = self._scope(stamp)
        signature = self._of("\n".join((*lines, ";".join(names), payload)), stamp, scope, credentials)
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return signed

    def query(
        self, credentials: ReadOnlyCredentials, host: str, path: str, *, seconds: int, at: float | None = None
    ) -> str:
        """What makes of ``path`` at ``host`` an address that anybody may GET, for so many ``seconds`` after ``at``."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        scope = self._scope(stamp)
        parameters = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if credentials.token is not None:
            parameters["X-Amz-Security-Token"] = credentials.token
        query = query_of(parameters)
        asked = "\n".join(("GET", path, query, f"host:{host}", "", "host", UNSIGNED))
        return f"{query}&X-Amz-Signature={self._of(asked, stamp, scope, credentials)}"

    def _scope(self, stamp: str) -> str:
        return f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"

    def _of(self, asked: str, stamp: str, scope: str, credentials: ReadOnlyCredentials) -> str:
        """The signature, in hexadecimal digits, of a request in its canonical form."""
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(asked.encode()).hexdigest()}"
        return hmac.digest(self._key(credentials.secret_key or "", stamp[:8]), text.encode(), "sha256").hex()

    def _key(self, secret: str, day: str) -> bytes:
        """What a day's requests are signed with; it is the same until one of the two changes."""
        known_secret, known_day, key = self._known
        if (known_secret, known_day) != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._known = (secret, day, key)
        return key


class _Known(NamedTuple):
    endpoint: Endpoint
    signature: Signature


class S3Addresses:
    """Any thread."""

    def __init__(self, find: Callable[[], Endpoint], credentials: Credentials | None) -> None:
        """``find`` is asked once, at the first address: where clients find the bucket."""
        self._find = find
        self._credentials = credentials
        self._lock = threading.Lock()
        self._known: _Known | None = None

    def address(self, key: str, path: str, seconds: int) -> str:
        """Where the object ``path``, its whole key, is read for so many seconds; ``key`` is for errors.

        Borrowed credentials may end before. Raises StoreMisconfigured (no credentials), StorageUnavailable.
        """
        try:
            if self._credentials is None:
                raise NoCredentialsError
            endpoint, signature = self._way()
            credentials = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise error_of_exception(key, error) from error
        target = endpoint.path + path_of(path)
        return f"{endpoint.origin}{target}?{signature.query(credentials, endpoint.host, target, seconds=seconds)}"

    def _way(self) -> _Known:
        """Raises BotoCoreError."""
        if self._known is None:
            with self._lock:
                if self._known is None:
                    endpoint = self._find()
                    self._known = _Known(endpoint, Signature(endpoint.region, endpoint.service))
        return self._known
