"""Calls to one S3 bucket: keys below a root, bounded retries, and the store's errors as ours."""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import tenacity
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from registry.storage.errors import (
    PathNotFound,
    PreconditionFailed,
    StorageError,
    StorageFull,
    StorageUnavailable,
    Throttled,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from registry.config import S3Settings

T = TypeVar("T")

_MISSING = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})
_CONDITION = frozenset({"412", "PreconditionFailed", "ConditionalRequestConflict"})
_THROTTLED = frozenset(
    {"429", "503", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
)
_FULL = frozenset({"507", "QuotaExceeded", "InsufficientStorage", "EntityTooLarge"})


class S3Bucket:
    """One bucket, and one root in it. Any thread."""

    def __init__(self, settings: S3Settings, root: str) -> None:
        self.name = settings.bucket
        self.root = f"{root.strip('/')}/" if root.strip("/") else ""
        self.client = _client(settings)
        self._retry = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(settings.attempts),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2.0, jitter=0.1),
            retry=tenacity.retry_if_exception_type((Throttled, StorageUnavailable)),
            reraise=True,
        )

    def path(self, key: str) -> str:
        """The object's whole key in the bucket."""
        return self.root + key

    def call(self, key: str, method: Callable[..., T], /, **parameters: Any) -> T:
        """Do one request on an object, again where it was throttled or not answered. Raises StorageError."""
        return self._retry(self.call_once, key, method, **parameters)

    def call_once(self, key: str, method: Callable[..., T], /, **parameters: Any) -> T:
        """Do one request on an object. Raises StorageError."""
        try:
            return method(Bucket=self.name, Key=self.path(key), **parameters)
        except (ClientError, BotoCoreError) as error:
            raise meaning(key, error) from error

    def ask(self, prefix: str, method: Callable[..., T], /, **parameters: Any) -> T:
        """Do one request on the bucket, again where it was throttled or not answered. Raises StorageError."""

        def once() -> T:
            try:
                return method(Bucket=self.name, **parameters)
            except (ClientError, BotoCoreError) as error:
                raise meaning(prefix, error) from error

        return self._retry(once)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def meaning(key: str, error: ClientError | BotoCoreError) -> StorageError:
    """What an error of the store says."""
    if not isinstance(error, ClientError):
        return StorageUnavailable(key, str(error))
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = f"{code} ({status})"
    if code in _MISSING or (status == http.HTTPStatus.NOT_FOUND and code not in {"NoSuchBucket"}):
        return PathNotFound(key)
    if code in _CONDITION or status == http.HTTPStatus.PRECONDITION_FAILED:
        return PreconditionFailed(key, reason)
    if code in _THROTTLED or status == http.HTTPStatus.TOO_MANY_REQUESTS:
        return Throttled(key, reason)
    if code in _FULL or status == http.HTTPStatus.INSUFFICIENT_STORAGE:
        return StorageFull(key, reason)
    return StorageUnavailable(key, reason)


def _client(settings: S3Settings) -> S3Client:
    configuration = Config(
        region_name=settings.region,
        signature_version="s3v4",
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
        max_pool_connections=settings.connections,
        retries={"total_max_attempts": 1},  # tenacity repeats, in one place, what may be repeated
        request_checksum_calculation=settings.checksums,
        response_checksum_validation=settings.checksums,
        s3={"addressing_style": settings.addressing_style},
        tcp_keepalive=True,
    )
    secret = settings.secret_access_key
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
        config=configuration,
    )
