"""Requests to an S3 bucket, signed here and sent over urllib3.

Amazon's library takes 0.85 ms of the processor for a small PutObject, 0.6 ms of it more than this. It decides where a
bucket is, and finds and renews credentials.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, NoCredentialsError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, PoolManager, ProxyManager, Timeout

from registry.storage.object_store.parts import SLICE, slices
from registry.storage.object_store.responses import BROKEN, error_of_break
from registry.storage.object_store.retry import KEPT_ALIVE, timeout_until
from registry.storage.s3.responses import error_of_exception
from registry.storage.s3.signature import Signature, path_of, query_of
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.credentials import Credentials
    from urllib3 import BaseHTTPResponse

    from registry.config.sections import S3Settings
    from registry.storage.object_store.gate import StoreGate
    from registry.storage.s3.endpoint import Endpoint

_NOTHING = hashlib.sha256(b"").hexdigest()


class S3Request(NamedTuple):
    """One request for an object, or for the bucket."""

    operation: str
    """As Amazon's library calls it: ``put_object``."""
    method: str
    headers: Mapping[str, str] = {}
    """Names in lower case. All are signed."""
    query: Mapping[str, str] = {}
    body: bytes | bytearray | None = None
    payload: str | None = None
    """The SHA-256 of the body in hexadecimal digits, or UNSIGNED; None if it is to be computed."""
    of_bucket: bool = False
    """It is for the bucket, and for no object in it."""
    streams: bool = False
    """The caller reads the bytes of the answer, and closes it."""
    deadline: float | None = None
    """It is sent and answered before then (``clocks.boot_seconds``), or fails."""


class _Way(NamedTuple):
    """How to come to an endpoint."""

    endpoint: Endpoint
    pool: HTTPConnectionPool
    before: str
    """What a proxy wants before the path; else empty."""
    signature: Signature


class S3Requests:
    """Any thread. Connections are kept; one that the store has closed meanwhile is made anew."""

    def __init__(
        self,
        settings: S3Settings,
        find: Callable[[], Endpoint],
        credentials: Credentials | None,
        certificates: str | None,
        gate: StoreGate,
    ) -> None:
        """``find`` is asked once, when credentials are needed; ``certificates`` is a file; None for the usual."""
        self._settings = settings
        self._find = find
        self._finding = threading.Lock()
        self._credentials = credentials
        self._certificates = certificates
        self._known: _Way | None = None
        self._gate = gate

    def send(self, key: str, path: str | None, request: S3Request) -> BaseHTTPResponse:
        """The answer, whatever its status; ``path`` is the whole key, None for the bucket, and ``key`` is for errors.

        Raises StorageUnavailable, StoreMisconfigured (no credentials).
        """
        try:
            if self._credentials is None:
                raise NoCredentialsError
            way = self._way()
            credentials = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise error_of_exception(key, error) from error
        target = (way.endpoint.path.rstrip("/") or "/") if path is None else way.endpoint.path + path_of(path)
        if request.query:
            target += f"?{query_of(request.query)}"
        headers = way.signature.headers(
            credentials,
            request.method,
            target,
            {**request.headers, "host": way.endpoint.host},
            payload=request.payload or _payload_of(request.body),
        )
        if request.body is not None:
            headers["content-length"] = str(len(request.body))
        try:
            with waiting:
                return self._exchange(key, way, target, request, headers)
        except BROKEN as error:
            raise error_of_break(key, error) from error

    def close(self) -> None:
        """Close the connections that are not in use."""
        way, self._known = self._known, None
        if way is not None:
            way.pool.close()

    def _way(self) -> _Way:
        """Raises BotoCoreError."""
        if self._known is None:
            with self._finding:
                if self._known is None:
                    endpoint = self._find()
                    self._known = _Way(endpoint, *self._pool(endpoint), Signature(endpoint.region, endpoint.service))
        return self._known

    def _pool(self, endpoint: Endpoint) -> tuple[HTTPConnectionPool, str]:
        settings = self._settings
        proxy = get_environ_proxies(endpoint.origin).get(endpoint.scheme)
        options: dict[str, Any] = {
            "maxsize": settings.connections,
            "timeout": Timeout(connect=settings.connect_timeout, read=settings.read_timeout),
            "socket_options": KEPT_ALIVE,
        }
        if endpoint.scheme == "https":
            options["cert_reqs"] = "CERT_REQUIRED"
            options["ca_certs"] = (
                self._certificates or os.environ.get("REQUESTS_CA_BUNDLE") or get_cert_path(verify=True)
            )
        manager = PoolManager(**options) if proxy is None else ProxyManager(proxy, **options)
        before = endpoint.origin if proxy is not None and endpoint.scheme == "http" else ""
        return manager.connection_from_url(endpoint.origin), before

    def _exchange(
        self, key: str, way: _Way, target: str, request: S3Request, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        options: dict[str, Any] = {
            "headers": headers,
            "retries": False,
            "redirect": False,
            "assert_same_host": False,
            "preload_content": not request.streams,
            "decode_content": False,
        }
        if request.deadline is not None:
            options["timeout"] = timeout_until(key, request.deadline, self._settings)
        body: Any = request.body  # urllib3 asks for bytes, and takes views
        if body is not None and len(body) > SLICE:
            with closing(slices([body], self._gate.move)) as body:
                return way.pool.urlopen(request.method, way.before + target, body=body, **options)
        return way.pool.urlopen(request.method, way.before + target, body=body, **options)


def _payload_of(body: bytes | bytearray | None) -> str:
    return hashlib.sha256(body).hexdigest() if body else _NOTHING
