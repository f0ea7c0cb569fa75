"""A small identity provider on loopback: discovery, keys, logins, and tokens as of GitHub, GitLab, Kubernetes."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson

from registry.auth.oidc.discovery import DISCOVERY
from tests.auth.signing import AnyKey, ec, jwks, rsa, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE = "registry.example.org"
CLIENT, SECRET = "stowage", "se:cret %+"
"""The registry, as a client at which users log in."""


class ProviderServer:
    """Signs with its first key; publishes all of them."""

    def __init__(self) -> None:
        self.keys: list[AnyKey] = [rsa(), ec()]
        self.asked: list[str] = []
        """The paths of all requests."""
        self.is_up = True
        """False: every request is answered 503."""
        self.user: dict[str, Any] = {"preferred_username": "alice", "groups": ["dev"]}
        """The claims of the user that logs in."""
        self.refuses = ""
        """The error of each login; empty if users are let in."""
        self.secret_in_body = False
        self.ends_sessions = False
        """It names an address where users log out."""
        self.codes: dict[str, dict[str, str]] = {}
        """What each login asked for."""
        self.keeps_codes = False
        """A code can be exchanged twice, as it must not."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                parts = urlsplit(self.path)
                if parts.path == "/authorize" and provider.is_up:
                    self.send_response(302)
                    self.send_header("Location", provider.authorize(dict(parse_qsl(parts.query))))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                document = provider.documents().get(self.path) if provider.is_up else None
                self.answer(503 if document is None else 200, document or b"")

            def do_POST(self) -> None:
                provider.asked.append(self.path)
                form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                status, document = provider.exchange(form, self.headers.get("Authorization", ""))
                self.answer(status, orjson.dumps(document))

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface of http.server
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def documents(self) -> dict[str, bytes]:
        return {
            DISCOVERY: orjson.dumps(
                {
                    "issuer": self.issuer,
                    "jwks_uri": f"{self.issuer}/keys",
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    **(
                        {"token_endpoint_auth_methods_supported": ["client_secret_post"]} if self.secret_in_body else {}
                    ),
                    **({"end_session_endpoint": f"{self.issuer}/logout?a=b"} if self.ends_sessions else {}),
                }
            ),
            "/keys": jwks(*self.keys),
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser of a user goes that has logged in (OpenID Connect Core 1.0, section 3.1.2)."""
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.codes[code] = asked
        answer = {"error": self.refuses} if self.refuses else {"code": code}
        return f"{asked['redirect_uri']}?{urlencode({**answer, 'state': asked['state']})}"

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, object]]:
        """The ID token for a code (section 3.1.3)."""
        if not self.is_up:
            return 503, {}
        if self.secret_in_body:
            is_client = (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        else:
            is_client = authorization == "Basic " + b64encode(f"{CLIENT}:se%3Acret+%25%2B".encode()).decode()
        if not is_client:
            return 401, {"error": "invalid_client"}
        asked = self.codes.get(form["code"]) if self.keeps_codes else self.codes.pop(form["code"], None)
        verified = urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if (
            asked is None
            or form["redirect_uri"] != asked["redirect_uri"]
            or verified != asked["code_challenge"]
            or form["grant_type"] != "authorization_code"
        ):
            return 400, {"error": "invalid_grant"}
        token = self.token(**{"aud": CLIENT, "nonce": asked["nonce"], **self.user})
        return 200, {"id_token": token, "access_token": "opaque", "token_type": "Bearer"}

    def token(self, **claims: Any) -> str:
        """One for our audience, good for five minutes; ``claims`` add to that, None takes away."""
        now = int(time.time())
        given = {"iss": self.issuer, "aud": AUDIENCE, "sub": "subject", "iat": now, "nbf": now, "exp": now + 300}
        key = self.keys[0]
        algorithm = {"RSA": "RS256", "EC": "ES256"}[key.key_type]
        return signed(key, algorithm, {name: value for name, value in (given | claims).items() if value is not None})

    def github(self, repository: str = "octo/app", ref: str = "refs/heads/main", **claims: Any) -> str:
        """As GitHub Actions gives to a job."""
        owner = repository.partition("/")[0]
        return self.token(
            **{
                "sub": f"repo:{repository}:ref:{ref}",
                "repository": repository,
                "repository_owner": owner,
                "repository_id": "123456",
                "repository_owner_id": "65",
                "repository_visibility": "private",
                "actor": "octocat",
                "ref": ref,
                "ref_protected": "true",
                "ref_type": "branch",
                "sha": "0" * 40,
                "workflow": "build",
                "job_workflow_ref": f"{repository}/.github/workflows/build.yml@{ref}",
                "event_name": "push",
                "run_id": "1",
                "run_attempt": "1",
                "environment": "prod",
                "runner_environment": "github-hosted",
                **claims,
            }
        )

    def gitlab(self, project_path: str = "team/app", *, ref_protected: bool = True, **claims: Any) -> str:
        """As GitLab CI gives to a job that asks for an ``id_token``."""
        return self.token(
            **{
                "sub": f"project_path:{project_path}:ref_type:branch:ref:main",
                "namespace_id": "72",
                "namespace_path": project_path.rpartition("/")[0],
                "project_id": "20",
                "project_path": project_path,
                "user_id": "1",
                "user_login": "sample-user",
                "user_email": "sample-user@example.com",
                "pipeline_source": "push",
                "ref": "main",
                "ref_type": "branch",
                "ref_protected": "true" if ref_protected else "false",
                **claims,
            }
        )

    def kubernetes(self, namespace: str = "team-a", account: str = "deployer", **claims: Any) -> str:
        """As the API server gives to a pod for an audience (TokenRequest)."""
        return self.token(
            **{
                "aud": [AUDIENCE],
                "sub": f"system:serviceaccount:{namespace}:{account}",
                "kubernetes.io": {
                    "namespace": namespace,
                    "node": {"name": "node-1", "uid": "n"},
                    "pod": {"name": "pod-1", "uid": "p"},
                    "serviceaccount": {"name": account, "uid": "s"},
                    "warnafter": 1,
                },
                **claims,
            }
        )

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def provider_server() -> Iterator[ProviderServer]:
    server = ProviderServer()
    try:
        yield server
    finally:
        server.close()
