"""*Login provider*: a provider at which users log in with a browser (OpenID Connect Core 1.0, section 3.1).

The code flow with PKCE (RFC 7636): the browser brings a code, and the registry exchanges it for an ID token.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote_plus, urlencode

import structlog

from registry.auth.jwt import Jwt, JwtInvalid
from registry.auth.oidc.documents import FetchFailed
from registry.oci import strict_json
from registry.oci.errors import Denied, RequestInvalid, Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from registry.auth.browser.attempt import Attempt
    from registry.auth.identity import Identity
    from registry.auth.oidc.documents import Documents
    from registry.auth.oidc.endpoints import Endpoints, ProviderEndpoints
    from registry.auth.oidc.provider import Provider
    from registry.config.token_sections import LoginSettings, OidcSettings

_OK: Final = 200
_REFUSED: Final = frozenset({400, 401})
_ERRORS: Final = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "invalid_request",
        "invalid_scope",
        "login_required",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
    }
)
"""What a provider may say in place of a code (RFC 6749, 4.1.2.1; OpenID Connect Core 1.0, 3.1.2.6)."""

log = structlog.get_logger(__name__)


class ProviderAnswer(NamedTuple):
    """What a browser brings back from the provider; empty is what it does not have."""

    code: str
    state: str
    issuer: str
    error: str


class LoginProvider:
    """Logs users in at one provider. Any thread. Every method raises Unavailable while the provider does not answer."""

    def __init__(
        self,
        settings: OidcSettings,
        login: LoginSettings,
        provider: Provider,
        endpoints: ProviderEndpoints,
        documents: Documents,
    ) -> None:
        """``login`` is that of the settings; ``documents`` asks the provider."""
        self.name = settings.name
        self._issuer = settings.issuer
        self._login = login
        self._provider = provider
        self._endpoints = endpoints
        self._documents = documents
        meaning = settings.model_dump_json(include={"issuer", "user", "groups", "as_users", "as_groups"})
        self.version = hashlib.sha256(f"{meaning} {login.client_id}".encode()).hexdigest()[:16]
        """16 hex digits that change once the settings make other identities of the same users."""

    def address(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where the browser goes to log in; the answer comes to ``redirect_uri``."""
        endpoint = self._endpoints.find().authorization
        asked = {
            "response_type": "code",
            "client_id": self._login.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._login.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return _with_query(endpoint, asked)

    def end_address(self) -> str | None:
        """Where its users end their session at the provider, which asks them; None if it names no such address."""
        endpoint = self._endpoints.find().end_session
        return None if endpoint is None else _with_query(endpoint, {"client_id": self._login.client_id})

    def identify(self, answer: ProviderAnswer, attempt: Attempt, redirect_uri: str) -> Identity:
        """The identity that an answer proves, whose state is that of the attempt.

        Its ``credential`` is the version of this provider. Raises RequestInvalid for a code that is not good any more
        and an answer of another provider, Denied where the provider refuses the user, Unauthorized for its ID token.
        """
        endpoints = self._endpoints.find()
        if (answer.issuer or endpoints.names_issuer) and answer.issuer != self._issuer:
            raise RequestInvalid("the answer is that of another identity provider; begin the login again")
        if not answer.code:
            said = answer.error if answer.error in _ERRORS else "no reason"
            raise Denied(f"the identity provider {self.name} refused the login ({said})")
        token = self._exchange(endpoints, answer.code, attempt, redirect_uri)
        identity = self._provider.identify_login(token, client_id=self._login.client_id, nonce=attempt.nonce)
        return replace(identity, credential=self.version)

    def _exchange(self, endpoints: Endpoints, code: str, attempt: Attempt, redirect_uri: str) -> Jwt:
        """Exchange the code for an ID token, which is not verified yet (section 3.1.3)."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers = {}
        secret = self._login.client_secret
        if secret is None:
            form["client_id"] = self._login.client_id
        elif endpoints.secret_in_body:
            form |= {"client_id": self._login.client_id, "client_secret": secret.get_secret_value()}
        else:
            headers["Authorization"] = _basic(self._login.client_id, secret.get_secret_value())
        try:
            status, body = self._documents.post(endpoints.token, urlencode(form), headers)
        except FetchFailed as error:
            raise self._silent(str(error)) from error
        document = _object(body)
        if status in _REFUSED and document.get("error") == "invalid_grant":
            raise RequestInvalid("the identity provider does not take the code of this login; begin it again")
        if status != _OK:
            raise self._silent(f"status {status}, error {str(document.get('error'))[:40]!a}")
        try:
            return Jwt.parse(str(document.get("id_token", "")))
        except JwtInvalid as error:
            raise Unauthorized(f"the identity provider {self.name} gave no ID token: {error}") from error

    def _silent(self, reason: str) -> Unavailable:
        log.warning("a login could not be finished at its identity provider", provider=self.name, reason=reason)
        message = f"the identity provider {self.name} does not answer as it should; begin the login again"
        return Unavailable(message, headers={"Retry-After": "5"})


def _with_query(address: str, parameters: Mapping[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}"


def _basic(client_id: str, secret: str) -> str:
    """Each part is encoded as in a form (RFC 6749, section 2.3.1)."""
    return "Basic " + b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = strict_json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
