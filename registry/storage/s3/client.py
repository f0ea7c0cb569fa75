"""Calls to one S3 bucket: keys below a root, bounded retries, and the store's errors as ours."""

from __future__ import annotations

import http
import logging
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import boto3
import botocore.session
import tenacity
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from registry.storage.errors import StorageError, StorageFull, StorageUnavailable, StoreMisconfigured, Throttled
from registry.storage.s3.endpoint import place_of
from registry.storage.s3.requests import S3Requests
from registry.storage.s3.responses import code_of, error_of_exception, error_of_response
from registry.storage.s3.signature import S3Addresses
from registry.storage.store_gate import StoreGate
from registry.storage.store_patience import stop_of
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mypy_boto3_s3 import S3Client
    from urllib3 import BaseHTTPResponse

    from registry.config import S3Settings
    from registry.storage.middleware.metrics import Observe
    from registry.storage.s3.requests import ObjectRequest

T = TypeVar("T")

logging.getLogger("botocore").setLevel(logging.WARNING)  # operators need not know where credentials were found

_FAILURES = (StorageUnavailable, Throttled, StoreMisconfigured, StorageFull)
"""Every other error answers a question."""


class S3Bucket:
    """One bucket, and one root in it. Any thread."""

    def __init__(self, settings: S3Settings, root: str, observe: Observe | None = None) -> None:
        self.name = settings.bucket
        self.root = f"{root.strip('/')}/" if root.strip("/") else ""
        session = botocore.session.Session()
        clients = _clients(session)
        self.client = _client(clients, settings, settings.endpoint_url)
        credentials = _credentials(session, settings)
        find = partial(place_of, self.client, self.name)
        self.gate = StoreGate(settings.connections)
        self._requests = S3Requests(settings, find, credentials, session.get_config_variable("ca_bundle"), self.gate)
        public = settings.redirect_endpoint_url
        if public is not None:
            find = partial(place_of, _client(clients, settings, public), self.name)
        self._addresses = S3Addresses(find, credentials)
        self._observe = observe
        self._retry = tenacity.Retrying(
            stop=stop_of(settings),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2.0, jitter=0.1),
            retry=tenacity.retry_if_exception_type((Throttled, StorageUnavailable)),
            reraise=True,
        )

    def path(self, key: str) -> str:
        """The object's whole key in the bucket."""
        return self.root + key

    def call(self, key: str, method: Callable[..., T], /, **parameters: object) -> T:
        """Do one request on an object, again where it was throttled or not answered. Raises StorageError."""
        return self._repeat(key, partial(self.call_once, key, method, **parameters))

    def call_once(self, key: str, method: Callable[..., T], /, **parameters: object) -> T:
        """Do one request on an object. Raises StorageError."""
        return self._request(key, method, Key=self.path(key), **parameters)

    def ask(self, prefix: str, method: Callable[..., T], /, **parameters: object) -> T:
        """Do one request on the bucket, again where it was throttled or not answered. Raises StorageError."""
        return self._repeat(prefix, partial(self._request, prefix, method, **parameters))

    def ask_once(self, prefix: str, method: Callable[..., T], /, **parameters: object) -> T:
        """Do one request on the bucket. Raises StorageError."""
        return self._request(prefix, method, **parameters)

    def repeat(self, work: Callable[[], T]) -> T:
        """Do it, again where it raises that the store throttles or does not answer. Raises StorageError."""
        return self._repeat("", work)

    def send(self, key: str, request: ObjectRequest) -> BaseHTTPResponse:
        """The answer to a request for an object, sent again where it was throttled or not answered.

        Raises StorageError, also for an answer that tells of one.
        """
        return self._repeat(key, partial(self.send_once, key, request))

    def send_once(self, key: str, request: ObjectRequest) -> BaseHTTPResponse:
        """The answer to a request for an object. Raises StorageError."""
        with self._observed(request.operation):
            with self.gate.enter(key):
                answer = self._requests.send(key, self.path(key), request)
            self.gate.move()
            if answer.status >= http.HTTPStatus.MULTIPLE_CHOICES:
                raise error_of_response(key, answer.status, code_of(_whole(key, answer)))
            return answer

    def presign(self, key: str, seconds: int) -> str:
        """An address to GET an object."""
        return self._addresses.address(key, self.path(key), seconds)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._requests.close()

    def _repeat(self, key: str, work: Callable[[], T]) -> T:
        with self.gate.enter(key):
            return self._retry(work)

    def _request(self, key: str, method: Callable[..., T], /, **parameters: object) -> T:
        with self._observed(method.__name__):
            try:
                with self.gate.enter(key), waiting:
                    answer = method(Bucket=self.name, **parameters)
            except (ClientError, BotoCoreError) as error:
                if isinstance(error, ClientError):
                    self.gate.move()
                raise error_of_exception(key, error) from error
            self.gate.move()
            return answer

    @contextmanager
    def _observed(self, operation: str) -> Generator[None]:
        begin = perf_counter()
        failed = True
        try:
            yield
            failed = False
        except StorageError as error:
            failed = isinstance(error, _FAILURES)
            raise
        finally:
            if self._observe is not None:
                self._observe("s3", operation, perf_counter() - begin, failed)


def _whole(key: str, answer: BaseHTTPResponse) -> bytes:
    """The body of an answer that tells an error."""
    try:
        return answer.data
    except (HTTPError, HTTPException, OSError) as error:
        raise StorageUnavailable(key, f"{answer.status}, and {error}") from error


def _credentials(session: botocore.session.Session, settings: S3Settings) -> Credentials | None:
    """Those of the settings, else what the session finds; they renew themselves when they are asked."""
    secret = settings.secret_access_key
    if settings.access_key_id is not None and secret is not None:
        return Credentials(settings.access_key_id, secret.get_secret_value())
    return session.get_credentials()


def _clients(session: botocore.session.Session) -> boto3.session.Session:
    """What makes clients; there is one for a session."""
    try:
        return boto3.session.Session(botocore_session=session)
    except BotoCoreError as error:
        raise StoreMisconfigured("", str(error)) from error


def _client(session: boto3.session.Session, settings: S3Settings, endpoint_url: str | None) -> S3Client:
    configuration = Config(
        region_name=settings.region,
        signature_version="s3v4",
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        max_pool_connections=settings.connections,
        retries={"total_max_attempts": 1},  # tenacity repeats, in one place, what may be repeated
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": settings.addressing_style},
        tcp_keepalive=True,
    )
    secret = settings.secret_access_key
    try:
        client: S3Client = session.client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
            config=configuration,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreMisconfigured("", str(error)) from error
    return client
