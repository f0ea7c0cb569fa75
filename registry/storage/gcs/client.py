"""Requests to one bucket of Google Cloud Storage: keys below a root, bounded retries, and the store's errors as ours.

The JSON protocol is spoken over urllib3, with tokens of google-auth: the store's own library takes twice the
processor time for each call and holds whole objects in memory.
"""

from __future__ import annotations

import http
import urllib.request
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from urllib3 import PoolManager, ProxyManager, Timeout

from registry.storage.gcs.credentials import GcsCredentials
from registry.storage.gcs.responses import document_of, error_of_response
from registry.storage.object_store.parts import slices
from registry.storage.object_store.responses import BROKEN, body_of, error_of_break
from registry.storage.object_store.retry import KEPT_ALIVE, Retry, timeout_until
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from urllib3 import BaseHTTPResponse

    from registry.config.sections import GcsSettings
    from registry.storage.middleware.metrics import Kind, Observe

GOOGLE = "https://storage.googleapis.com"
_KINDS: Final[dict[str, Kind]] = {
    "objects.list": "list",
    "objects.get": "get",
    "objects.insert": "put",
    "objects.compose": "put",
    "objects.rewrite": "copy",
    "objects.delete": "delete",
    "batch": "delete",
}
"""Operations by what is billed for them."""


class Call(NamedTuple):
    """One request of the JSON protocol."""

    operation: str
    """What it is called there: ``objects.get``."""
    method: str
    path: str
    """From the root of the endpoint, quoted, without a query."""
    query: Mapping[str, str | int] = {}
    headers: Mapping[str, str] = {}
    body: Sequence[bytes | bytearray] = ()
    """The pieces of which it consists; they are not joined where they are large."""
    streams: bool = False
    """The caller reads the bytes of the answer, and closes it."""
    deadline: float | None = None
    """It is sent and answered before then (``clocks.boot_seconds``), or fails."""


class GcsBucket:
    """One bucket, and one root in it. Any thread."""

    def __init__(self, settings: GcsSettings, root: str, observe: Observe | None = None) -> None:
        """Raises StoreMisconfigured when there are no credentials."""
        self.name = settings.bucket
        self._settings = settings
        self.root = f"{root.strip('/')}/" if root.strip("/") else ""
        self.objects = f"/storage/v1/b/{quote(self.name, safe='')}/o"
        """The path of a listing, and of the objects below it."""
        self._endpoint = settings.endpoint_url or GOOGLE
        self._pool = _pool(settings, self._endpoint)
        self.credentials = GcsCredentials(settings, self._pool)
        self.retry = Retry("gcs", settings, observe)

    def path(self, key: str) -> str:
        """The object's whole name in the bucket."""
        return self.root + key

    def object(self, key: str) -> str:
        """The path of an object."""
        return f"{self.objects}/{quote(self.path(key), safe='')}"

    def ask(self, key: str, call: Call) -> dict[str, Any]:
        """The JSON object that answers a call, made again where it was throttled or not answered."""
        return self.retry.repeat(key, partial(self.ask_once, key, call))

    def ask_once(self, key: str, call: Call) -> dict[str, Any]:
        """The JSON object that answers a call. Raises StorageError."""
        return document_of(key, self.send_once(key, call).data)

    def send(self, key: str, call: Call) -> BaseHTTPResponse:
        """The answer to a call, made again where it was throttled or not answered. Raises StorageError."""
        return self.retry.repeat(key, partial(self.send_once, key, call))

    def send_once(self, key: str, call: Call) -> BaseHTTPResponse:
        """The answer to a call. Raises StorageError."""
        with self.retry.request(key, call.operation, _KINDS[call.operation]):
            answer = self._send(key, call)
            self.retry.gate.move()
            if answer.status >= http.HTTPStatus.MULTIPLE_CHOICES:
                raise error_of_response(key, answer.status, body_of(key, answer))
            return answer

    def presign(self, key: str, seconds: int) -> str:
        """An address to GET an object."""
        return self.credentials.sign_get(self._endpoint, self.name, self.path(key), seconds)

    def close(self) -> None:
        """Close the connections."""
        for host in self._pool.pools.keys():  # noqa: SIM118 - which is no mapping that can be iterated
            self._pool.pools[host].close()  # clear() leaves it to the end of what refers to it, such as an error
        self._pool.clear()

    def _send(self, key: str, call: Call) -> BaseHTTPResponse:
        """Once, and once more with a new token where the store does not accept the one that there was."""
        token = self.credentials.headers()
        answer = self._exchange(key, call, token)
        if answer.status == http.HTTPStatus.UNAUTHORIZED and self.credentials.reject(token):
            answer.close()
            answer = self._exchange(key, call, self.credentials.headers())
        return answer

    def _exchange(self, key: str, call: Call, token: Mapping[str, str]) -> BaseHTTPResponse:
        headers = {**token, **call.headers}
        if call.body:
            headers["content-length"] = str(sum(map(len, call.body)))
        query = f"?{urlencode(call.query)}" if call.query else ""
        options: dict[str, Any] = {}
        if call.deadline is not None:
            options["timeout"] = timeout_until(key, call.deadline, self._settings)
        with closing(slices(call.body, self.retry.gate.move)) as parts:
            body: Any = parts if call.body else None  # urllib3 asks for bytes, and takes views
            try:
                with waiting:
                    return self._pool.urlopen(
                        call.method,
                        self._endpoint + call.path + query,
                        body=body,
                        headers=headers,
                        retries=False,
                        redirect=False,
                        preload_content=not call.streams,
                        decode_content=False,
                        **options,
                    )
            except BROKEN as error:
                raise error_of_break(key, error) from error


def _pool(settings: GcsSettings, endpoint: str) -> PoolManager:
    timeout = Timeout(connect=settings.connect_timeout, read=settings.read_timeout)
    parts = urlsplit(endpoint)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return PoolManager(maxsize=settings.connections, timeout=timeout, socket_options=KEPT_ALIVE)
    return ProxyManager(proxy, maxsize=settings.connections, timeout=timeout, socket_options=KEPT_ALIVE)
