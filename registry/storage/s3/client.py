"""Requests to one S3 bucket: keys below a root, bounded retries, and the store's errors as ours.

Tests: ``tests/storage/s3/test_requests.py``.
"""

from __future__ import annotations

import http
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from registry.storage.errors import StoreMisconfigured
from registry.storage.object_store.responses import body_of
from registry.storage.object_store.retry import Retry
from registry.storage.s3.endpoint import finder
from registry.storage.s3.requests import S3Requests
from registry.storage.s3.responses import code_of, document_of, error_of_response
from registry.storage.s3.signature import S3Addresses

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from urllib3 import BaseHTTPResponse

    from registry.config.sections import S3Settings
    from registry.storage.middleware.metrics import Kind, Observe
    from registry.storage.s3.requests import S3Request

logging.getLogger("botocore").setLevel(logging.WARNING)  # operators need not know where credentials were found

_KINDS: Final[dict[str, Kind]] = {
    "list_objects_v2": "list",
    "list_multipart_uploads": "list",
    "list_parts": "list",
    "head_object": "head",
    "get_object": "get",
    "put_object": "put",
    "create_multipart_upload": "put",
    "upload_part": "put",
    "complete_multipart_upload": "put",
    "copy_object": "copy",
    "upload_part_copy": "copy",
    "abort_multipart_upload": "delete",
    "delete_object": "delete",
    "delete_objects": "delete",
}
"""Operations by what is billed for them."""


class S3Bucket:
    """One bucket, and one root in it. Any thread."""

    def __init__(self, settings: S3Settings, root: str, observe: Observe | None = None) -> None:
        """Raises StoreMisconfigured where the settings do not say how to find the bucket."""
        self.name = settings.bucket
        self.root = f"{root.strip('/')}/" if root.strip("/") else ""
        self.retry = Retry("s3", settings, observe)
        session = Session()
        try:
            credentials = _credentials(session, settings)
            find = finder(session, settings, settings.endpoint_url)
            self._requests = S3Requests(
                settings, find, credentials, session.get_config_variable("ca_bundle"), self.retry.gate
            )
            public = settings.redirect_endpoint_url
            self._addresses = S3Addresses(finder(session, settings, public) if public else find, credentials)
        except (BotoCoreError, ValueError) as error:
            raise StoreMisconfigured("", str(error)) from error

    def path(self, key: str) -> str:
        """The object's whole key in the bucket."""
        return self.root + key

    def ask(self, key: str, request: S3Request) -> Element:
        """The XML document that answers a request, sent again where it was throttled or not answered."""
        return self.retry.repeat(key, partial(self.ask_once, key, request))

    def ask_once(self, key: str, request: S3Request) -> Element:
        """The XML document that answers a request. Raises StorageError."""
        return document_of(key, self.send_once(key, request).data)

    def send(self, key: str, request: S3Request) -> BaseHTTPResponse:
        """The answer to a request, sent again where it was throttled or not answered.

        Raises StorageError, also for an answer that tells of one.
        """
        return self.retry.repeat(key, partial(self.send_once, key, request))

    def send_once(self, key: str, request: S3Request) -> BaseHTTPResponse:
        """The answer to a request. Raises StorageError."""
        with self.retry.request(key, request.operation, _KINDS[request.operation]):
            answer = self._requests.send(key, None if request.of_bucket else self.path(key), request)
            self.retry.gate.move()
            if answer.status >= http.HTTPStatus.MULTIPLE_CHOICES:
                raise error_of_response(key, answer.status, code_of(body_of(key, answer)))
            return answer

    def presign(self, key: str, seconds: int) -> str:
        """An address to GET an object."""
        return self._addresses.address(key, self.path(key), seconds)

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()


def _credentials(session: Session, settings: S3Settings) -> Credentials | None:
    """Those of the settings, else what the session finds; they are renewed as they are asked for."""
    secret = settings.secret_access_key
    if settings.access_key_id is not None and secret is not None:
        return Credentials(settings.access_key_id, secret.get_secret_value())
    return session.get_credentials()
