"""Credentials for Google Cloud Storage: tokens for requests, and signed URLs for clients.

Tests: ``tests/storage/gcs/test_client.py``.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import google.auth
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.urllib3 import Request
from google.cloud.storage import Client  # type: ignore[import-untyped]
from google.oauth2.service_account import Credentials as ServiceAccount

from registry.storage.errors import StorageUnavailable, StoreMisconfigured, UnsupportedOperation

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from urllib3 import PoolManager

    from registry.config.sections import GcsSettings

WHERE = "check storage.gcs.credentials_file, or what the environment says"
"""What to look at when they are not accepted."""
_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)


class GcsCredentials:
    """Any thread. A token is renewed by one of them, before it ends."""

    def __init__(self, settings: GcsSettings, pool: PoolManager) -> None:
        """Raises StoreMisconfigured when there are none, unless ``storage.gcs.anonymous`` says that none are wanted."""
        request: Any = Request(pool)  # type: ignore[no-untyped-call]
        self._seconds = settings.connect_timeout + settings.read_timeout
        self._request = partial(request, timeout=self._seconds)  # its own default is two minutes
        self._project = {"x-goog-user-project": settings.project} if settings.project is not None else {}
        self._credentials = None if settings.anonymous else _find(settings, self._request)
        self._renewal = threading.Lock()
        self._client: Client | None = None

    @property
    def can_sign(self) -> bool:
        """Whether ``sign_get`` works: with the key of a service account, without a request."""
        return isinstance(self._credentials, ServiceAccount)

    def headers(self) -> dict[str, str]:
        """What each request carries. Raises StorageUnavailable, StoreMisconfigured."""
        headers = dict(self._project)
        credentials = self._credentials
        if credentials is not None:
            if not credentials.valid:
                self._renew(credentials)
            credentials.apply(headers)  # type: ignore[no-untyped-call]
        return headers

    def reject(self, headers: dict[str, str]) -> bool:
        """The store did not accept these headers. Returns whether the next ones will differ."""
        credentials = self._credentials
        if credentials is None:
            return False
        with self._renewal:
            rejected = dict(self._project)
            credentials.apply(rejected)  # type: ignore[no-untyped-call]
            if rejected == headers:
                credentials.token = None
        return True

    def sign_get(self, endpoint: str, bucket: str, name: str, seconds: int) -> str:
        """An address at which anybody may GET the object ``name`` for so long."""
        credentials = self._credentials
        if not isinstance(credentials, ServiceAccount):
            raise UnsupportedOperation("", "only the key of a service account signs addresses")
        if self._client is None:
            self._client = Client(project=credentials.project_id or "-", credentials=credentials)
        blob = self._client.bucket(bucket).blob(name)
        address: str = blob.generate_signed_url(
            version="v4", expiration=timedelta(seconds=seconds), method="GET", api_access_endpoint=endpoint
        )
        return address

    def _renew(self, credentials: Credentials) -> None:
        if not self._renewal.acquire(timeout=self._seconds):
            raise StorageUnavailable("", f"no token: it was waited for {self._seconds:g} seconds")
        try:
            if credentials.valid:
                return
            try:
                credentials.refresh(self._request)  # type: ignore[no-untyped-call]
            except TransportError as error:
                raise StorageUnavailable("", f"no token: {error}") from error
            except GoogleAuthError as error:
                if error.retryable:
                    raise StorageUnavailable("", f"no token: {error}") from error
                raise StoreMisconfigured("", f"no token is given to these credentials: {WHERE} ({error})") from error
        finally:
            self._renewal.release()


def _find(settings: GcsSettings, request: Any) -> Credentials:  # noqa: ANN401 - a callable of google-auth
    if settings.credentials_file is not None:
        try:
            account: Credentials = ServiceAccount.from_service_account_file(  # type: ignore[no-untyped-call]
                str(settings.credentials_file), scopes=_SCOPES
            )
        except (OSError, ValueError, GoogleAuthError) as error:
            reason = "it is not the key of a service account; other kinds are named by GOOGLE_APPLICATION_CREDENTIALS"
            raise StoreMisconfigured("", f"storage.gcs.credentials_file: {reason} ({error})") from error
        return account
    try:
        found, _project = google.auth.default(scopes=_SCOPES, request=request)
    except (OSError, ValueError, GoogleAuthError) as error:
        raise StoreMisconfigured("", f"there are no credentials: {WHERE} ({error})") from error
    return found
