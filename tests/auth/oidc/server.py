"""A small identity provider on loopback: discovery, keys, and tokens with the claims of GitHub, GitLab, Kubernetes."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import orjson

from registry.auth.oidc.provider_keys import DISCOVERY
from tests.auth.signing import AnyKey, ec, jwks, rsa, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE = "registry.example.org"


class ProviderServer:
    """Signs with its first key; publishes all of them."""

    def __init__(self) -> None:
        self.keys: list[AnyKey] = [rsa(), ec()]
        self.asked: list[str] = []
        """The paths of all requests."""
        self.is_up = True
        """False: every request is answered 503."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                document = provider.documents().get(self.path) if provider.is_up else None
                self.send_response(503 if document is None else 200)
                self.send_header("Content-Length", str(len(document or b"")))
                self.end_headers()
                self.wfile.write(document or b"")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the interface of http.server
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def documents(self) -> dict[str, bytes]:
        return {
            DISCOVERY: orjson.dumps({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}),
            "/keys": jwks(*self.keys),
        }

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
