"""Calls to one S3 bucket: keys below a root, bounded retries, and the store's errors as ours."""

from __future__ import annotations

import http
import logging
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import boto3
import tenacity
from botocore import handlers
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from registry.storage.errors import (
    PathNotFound,
    PreconditionFailed,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreRefused,
    Throttled,
)
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from registry.config import S3Settings
    from registry.storage.measured import Observe

T = TypeVar("T")

logging.getLogger("botocore").setLevel(logging.WARNING)  # where credentials were found is nobody's news

_CODES: dict[str, type[StorageError]] = {
    **dict.fromkeys(("NoSuchKey", "NotFound", "NoSuchUpload", "InvalidPart"), PathNotFound),
    **dict.fromkeys(("PreconditionFailed", "ConditionalRequestConflict"), PreconditionFailed),
    **dict.fromkeys(
        ("SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"), Throttled
    ),
    **dict.fromkeys(("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"), StorageFull),
    **dict.fromkeys(("RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted"), StorageUnavailable),
}
_KEYS = "check storage.s3.access_key_id and storage.s3.secret_access_key, or what the environment says"
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket: check storage.s3.bucket, or make it",
    "InvalidBucketName": "no bucket can have this name: check storage.s3.bucket",
    "InvalidAccessKeyId": f"the store does not know the access key: {_KEYS}",
    "XAdminUserNotFound": f"the store does not know the access key: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret does not belong to the access key: {_KEYS}",
    "InvalidToken": f"the session token is not valid: {_KEYS}",
    "ExpiredToken": f"the credentials have expired: {_KEYS}",
    "AccessDenied": "these credentials may not do that: check the policies of the bucket and of the user",
    "AllAccessDisabled": "access to the bucket is disabled",
    "AuthorizationHeaderMalformed": "the bucket is in another region: check storage.s3.region",
    "IllegalLocationConstraintException": "the bucket is in another region: check storage.s3.region",
    "PermanentRedirect": "the bucket is in another region: check storage.s3.region and storage.s3.endpoint_url",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}
_CREDENTIALS = (CredentialRetrievalError, NoCredentialsError, PartialCredentialsError, ProfileNotFound, NoRegionError)
DEADLINE = 60.0
"""Seconds after which a request is not repeated any more."""


class InvalidRange(StorageError):
    """The range begins behind the end of the object."""


_STATUSES: dict[int, type[StorageError]] = {
    http.HTTPStatus.NOT_FOUND: PathNotFound,
    http.HTTPStatus.PRECONDITION_FAILED: PreconditionFailed,
    http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: InvalidRange,
    http.HTTPStatus.TOO_MANY_REQUESTS: Throttled,
    http.HTTPStatus.SERVICE_UNAVAILABLE: Throttled,
    http.HTTPStatus.REQUEST_TIMEOUT: StorageUnavailable,
    http.HTTPStatus.INSUFFICIENT_STORAGE: StorageFull,
}


class S3Bucket:
    """One bucket, and one root in it. Any thread."""

    def __init__(self, settings: S3Settings, root: str, observe: Observe | None = None) -> None:
        self.name = settings.bucket
        self.root = f"{root.strip('/')}/" if root.strip("/") else ""
        self.client = _client(settings, settings.endpoint_url)
        public = settings.redirect_endpoint_url
        self._signer = self.client if public is None else _client(settings, public)
        self._observe = observe
        self._retry = tenacity.Retrying(
            stop=tenacity.stop_any(tenacity.stop_after_attempt(settings.attempts), tenacity.stop_after_delay(DEADLINE)),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2.0, jitter=0.1),
            retry=tenacity.retry_if_exception_type((Throttled, StorageUnavailable)),
            reraise=True,
        )

    def path(self, key: str) -> str:
        """The object's whole key in the bucket."""
        return self.root + key

    def call(self, key: str, method: Callable[..., T], /, **parameters: object) -> T:
        """Do one request on an object, again where it was throttled or not answered. Raises StorageError."""
        return self._retry(partial(self.call_once, key, method, **parameters))

    def call_once(self, key: str, method: Callable[..., T], /, **parameters: object) -> T:
        """Do one request on an object. Raises StorageError."""
        return self._request(key, method, Key=self.path(key), **parameters)

    def ask(self, prefix: str, method: Callable[..., T], /, **parameters: object) -> T:
        """Do one request on the bucket, again where it was throttled or not answered. Raises StorageError."""
        return self._retry(partial(self._request, prefix, method, **parameters))

    def presign(self, key: str, seconds: int) -> str:
        """An address to GET an object."""
        try:
            return self._signer.generate_presigned_url(
                "get_object", Params={"Bucket": self.name, "Key": self.path(key)}, ExpiresIn=seconds
            )
        except BotoCoreError as error:
            raise meaning(key, error) from error

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _request(self, key: str, method: Callable[..., T], /, **parameters: object) -> T:
        begin = perf_counter()
        failed = True
        try:
            with waiting:
                answer = method(Bucket=self.name, **parameters)
            failed = False
        except (ClientError, BotoCoreError) as error:
            said = meaning(key, error)
            failed = isinstance(said, (StorageUnavailable, Throttled, StoreRefused, StorageFull))
            raise said from error
        finally:
            if self._observe is not None:
                self._observe("s3", method.__name__, perf_counter() - begin, failed)
        return answer


def meaning(key: str, error: ClientError | BotoCoreError) -> StorageError:
    """What an error of the store says."""
    if isinstance(error, _CREDENTIALS):
        return StoreRefused(key, f"{error} ({_KEYS})")
    if not isinstance(error, ClientError):
        return StorageUnavailable(key, str(error))
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = f"{code} ({status})"
    if code in _REFUSALS:
        return StoreRefused(key, f"{_REFUSALS[code]} ({code})")
    found = _CODES.get(code)
    if found is None and (not code or code == str(status) or status != http.HTTPStatus.NOT_FOUND):
        found = _STATUSES.get(status)  # an answer to HEAD has no body, hence no code
    if found is not None:
        return found(key, reason)
    if status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return StoreRefused(key, f"the store refuses the request: {reason}")
    return StorageUnavailable(key, reason)


def _client(settings: S3Settings, endpoint_url: str | None) -> S3Client:
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
    try:
        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret is not None else None,
            config=configuration,
        )
    except (BotoCoreError, ValueError) as error:
        raise StoreRefused("", str(error)) from error
    for operation in ("PutObject", "UploadPart"):
        # As a file, a body goes out after the store has said 100 Continue: one more way there and back for each write.
        client.meta.events.unregister(
            f"before-parameter-build.s3.{operation}", handlers.convert_body_to_file_like_object
        )
    return client
