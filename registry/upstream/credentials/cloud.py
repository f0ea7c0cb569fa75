"""*Cloud credentials*: tokens of Amazon ECR and of Google Cloud, renewed before they end.

Tests: ``tests/upstream/credentials/test_credentials.py``.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import google.auth
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.urllib3 import Request
from google.oauth2.service_account import Credentials as ServiceAccount
from urllib3 import PoolManager

from registry.upstream.credentials.credential import Credential
from registry.upstream.errors import TokenUnavailable
from registry.upstream.renewal import Held, Renewal

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.config.upstream_sections import EcrCredentials, GoogleCredentials
    from registry.upstream.url import Origin

T = TypeVar("T")

GOOGLE_USER: Final = "oauth2accesstoken"
"""The user that an access token is the password of."""
_GOOGLE_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform.read-only",)
_SECONDS: Final = 10.0
"""For one request to a cloud."""
_DEFAULT_LIFE: Final = 600.0
"""Seconds for which a token is taken to be good that does not say."""


class CloudSource:
    """See Credentials. The token of a cloud, for each server of the mirror."""

    def __init__(self, load: Callable[[float], tuple[Credential, float]]) -> None:
        """``load`` asks the cloud, and says for how many seconds the answer is good. It raises TokenUnavailable."""
        self._renewal = Renewal(load)
        self._given: Held[Credential] | None = None

    def get(self, origin: Origin) -> Credential:  # noqa: ARG002 - the same for each
        """The credential, as it is now. Raises TokenUnavailable."""
        self._given = self._renewal.get()
        return self._given.value

    def reject(self, credential: Credential) -> bool:
        """A server does not accept this one: the cloud is asked again."""
        held = self._given
        if held is not None and held.value == credential:
            self._renewal.reject(held)
        return True


def ecr(settings: EcrCredentials) -> CloudSource:
    """Tokens of Amazon ECR (GetAuthorizationToken), which are good for 12 hours."""
    session = Session()

    def load(_seconds: float) -> tuple[Credential, float]:
        try:
            client: Any = session.create_client(
                "ecr",
                region_name=settings.region,
                config=Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 2}),
            )
            (given,) = client.get_authorization_token()["authorizationData"]
            user, _, secret = b64decode(given["authorizationToken"]).decode().partition(":")
            return Credential(user, secret), _life_until(given.get("expiresAt"))
        except (BotoCoreError, ClientError) as error:
            raise TokenUnavailable(f"Amazon gives no token: {_code_of(error)}") from error
        except (KeyError, ValueError, binascii.Error) as error:
            raise TokenUnavailable("Amazon gives no token: its answer has none") from error

    return CloudSource(load)


def google_cloud(settings: GoogleCredentials) -> CloudSource:
    """Access tokens of Google Cloud, as a rule good for an hour."""
    request: Any = Request(PoolManager(timeout=_SECONDS, retries=False))  # type: ignore[no-untyped-call]
    found: list[Any] = []

    def load(_seconds: float) -> tuple[Credential, float]:
        try:
            if not found:
                found.append(_google_credentials(settings, request))
            credentials = found[0]
            credentials.refresh(request)
        except (OSError, ValueError, GoogleAuthError) as error:
            raise TokenUnavailable(f"Google gives no token: {type(error).__name__}") from error
        expiry = credentials.expiry
        return Credential(GOOGLE_USER, str(credentials.token)), _life_until(
            expiry.replace(tzinfo=UTC) if expiry else None
        )

    return CloudSource(load)


def _google_credentials(settings: GoogleCredentials, request: Any) -> Any:  # noqa: ANN401 - google-auth has no types
    if settings.credentials_file is not None:
        file = str(settings.credentials_file)
        return ServiceAccount.from_service_account_file(file, scopes=_GOOGLE_SCOPES)  # type: ignore[no-untyped-call]
    return google.auth.default(scopes=_GOOGLE_SCOPES, request=request)[0]


def _life_until(expiry: datetime | None) -> float:
    return _DEFAULT_LIFE if expiry is None else max((expiry - datetime.now(UTC)).total_seconds(), 1.0)


def _code_of(error: Exception) -> str:
    """What went wrong, without what the error quotes of the request."""
    code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
    return str(code or type(error).__name__)
