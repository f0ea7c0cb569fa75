"""The same decision by every route and method, whatever proves the identity; holes that other registries had."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlencode

import bcrypt
import pytest

from registry.api.access import Action
from registry.api.http.routing import OciRoute
from registry.auth.keys.key_record import KeyRecord
from registry.auth.keys.key_secret import KeySecret
from registry.auth.keys.key_store import KeyStore
from registry.server.application import CHAPTERS
from tests.api.service import Reply, Service, serving
from tests.api.test_guard import basic
from tests.auth.oidc.server import AUDIENCE, ProviderServer, provider_server
from tests.support.payloads import Blob, image

WHO = ["worker", "oidc:ci/worker"]
RULES: list[dict[str, Any]] = [
    {"who": WHO, "repositories": ["pull/**"], "actions": ["pull"]},
    {"who": WHO, "repositories": ["push/**"], "actions": ["push"]},
    {"who": WHO, "repositories": ["delete/**"], "actions": ["delete"]},
    {"who": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
    {"who": ["a_b"], "repositories": ["a_b/**"], "actions": ["push"]},
    {"who": ["axb"], "repositories": ["axb/**"], "actions": ["push"]},
    {"who": ["root"], "repositories": ["**"], "actions": ["*"]},
]
USERS = ("worker", "a_b", "axb", "root")
PASSWORD = "secret of all"
ALLOWED = {
    "pull": {Action.PULL},
    "push": {Action.PULL, Action.PUSH},
    "delete": {Action.DELETE},
    "public": {Action.PULL},
    "secret": set[Action](),
}
CONFIG = Blob(b'{"of": "decisions"}')
IMAGE = image(CONFIG, [])
ROUTES = sorted(
    (method, route.path, route.action)
    for route in (cast("OciRoute", route) for chapter in CHAPTERS for route in chapter.router.routes)
    for method in route.methods or ()
    if "{name" in route.path
)


class Place:
    """A registry with a worker that proves itself in several ways."""

    def __init__(self, service: Service, provider: ProviderServer) -> None:
        self.service = service
        secret = KeySecret.make()
        record = KeyRecord.make(
            secret, owner="worker", scope=None, created=time.time(), expires=None, description="of the worker"
        )
        backends = service.registry.backends
        KeyStore(backends.driver, backends.database).add(record)
        self.given = {
            "password": basic("worker", PASSWORD),
            "key": f"Bearer {secret.text}",
            "key as a password": basic("any", secret.text),
            "provider": f"Bearer {provider.token(sub='worker')}",
            "provider as a password": basic("any", provider.token(sub="worker")),
        }
        for name in (*ALLOWED, "a_b", "axb"):
            self.push(f"{name}/app")

    def push(self, repository: str) -> None:
        headers = {"Authorization": basic("root", PASSWORD), "Content-Type": IMAGE.media_type}
        blob, manifest = f"/v2/{repository}/blobs/uploads/?digest={CONFIG.digest}", f"/v2/{repository}/manifests/one"
        assert self.service.call("POST", blob, CONFIG.data, headers).status == 201
        assert self.service.call("PUT", manifest, IMAGE.data, headers).status == 201

    def token(self, authorization: str, *repositories: str) -> str:
        """A token for everything in these repositories."""
        query = urlencode([("scope", f"repository:{name}:*") for name in repositories])
        reply = self.service.call("GET", f"/auth/token?{query}", headers=headed(authorization))
        assert reply.status == 200, reply
        return f"Bearer {reply.json['token']}"

    def ask(self, authorization: str, method: str, path: str, body: bytes = b"") -> Reply:
        return self.service.call(method, path, body, headed(authorization))


def headed(authorization: str) -> dict[str, str]:
    return {"Authorization": authorization} if authorization else {}


def path_of(template: str, repository: str) -> str:
    """A path of the route that finds nothing to delete and nothing to end."""
    values = {"name:path": repository, "reference": "absent", "digest": f"sha256:{'0' * 64}", "upload": "0" * 32}
    for parameter, value in values.items():
        template = template.replace(f"{{{parameter}}}", value)
    return template


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("decisions")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (directory / "htpasswd").write_text("".join(f"{user}:{hashed}\n" for user in USERS))
    with provider_server() as provider:
        auth = {
            "htpasswd": {"file": directory / "htpasswd"},
            "oidc": [{"name": "ci", "issuer": provider.issuer, "audiences": [AUDIENCE], "any_identity": True}],
        }
        with serving(directory, {"auth": auth, "access": {"rules": RULES}}) as service:
            yield Place(service, provider)


@pytest.mark.parametrize(
    ("kind", "with_token"),
    [
        ("password", False),
        ("key", False),
        ("key as a password", False),
        ("provider", False),
        ("provider as a password", False),
        ("password", True),
        ("key as a password", True),
        ("provider as a password", True),
    ],
)
@pytest.mark.parametrize(("method", "template", "action"), ROUTES)
def test_every_proof_of_an_identity_leads_to_the_same_decision(
    place: Place, method: str, template: str, action: Action, kind: str, with_token: bool
) -> None:
    for name, allowed in ALLOWED.items():
        path, given = path_of(template, f"{name}/app"), place.given[kind]
        authorization = place.token(given, f"{name}/app") if with_token else given
        reply = place.ask(authorization, method, path)
        assert (reply.status not in {401, 403}) == (action in allowed), (name, reply)


@pytest.mark.parametrize(("method", "template", "action"), ROUTES)
def test_an_anonymous_token_is_no_more_than_none(place: Place, method: str, template: str, action: Action) -> None:
    token = place.token("", *(f"{name}/app" for name in ALLOWED))
    for name, allowed in ALLOWED.items():
        for authorization in (token, ""):
            reply = place.ask(authorization, method, path_of(template, f"{name}/app"))
            is_allowed = name == "public" and action in allowed
            assert (reply.status not in {401, 403}) == is_allowed, (name, reply)
            assert is_allowed or reply.status == 401


def test_an_anonymous_token_sees_in_the_catalog_what_is_public(place: Place) -> None:
    reply = place.service.call("GET", "/auth/token?scope=registry:catalog:*")
    found = place.ask(f"Bearer {reply.json['token']}", "GET", "/v2/_catalog")
    assert found.json == {"repositories": ["public/app"]}


def test_a_manifest_that_names_what_another_repository_has_brings_it_not_here(place: Place) -> None:
    worker = place.given["password"]
    hidden = Blob(b"hidden bytes of the secret repository")
    headers = {"Authorization": basic("root", PASSWORD)}
    path = f"/v2/secret/app/blobs/uploads/?digest={hidden.digest}"
    assert place.service.call("POST", path, hidden.data, headers).status == 201
    named = image(CONFIG, [hidden])
    headers = {"Authorization": worker, "Content-Type": named.media_type}
    for tag in ("one", named.digest):
        reply = place.service.call("PUT", f"/v2/push/app/manifests/{tag}", named.data, headers)
        assert (reply.status, reply.code) in {(400, "MANIFEST_BLOB_UNKNOWN"), (404, "MANIFEST_BLOB_UNKNOWN")}
    for method in ("HEAD", "GET"):
        for repository in ("push/app", "pull/app", "secret/app"):
            assert place.ask(worker, method, f"/v2/{repository}/blobs/{hidden.digest}").status in {403, 404}


def test_an_underscore_is_one_letter_of_a_name_and_no_pattern(place: Place) -> None:
    for user, own, foreign in (("a_b", "a_b/app", "axb/app"), ("axb", "axb/app", "a_b/app")):
        authorization = basic(user, PASSWORD)
        assert place.ask(authorization, "GET", f"/v2/{own}/manifests/one").status == 200
        assert place.ask(authorization, "GET", f"/v2/{foreign}/manifests/one").status == 403
        catalog = place.ask(authorization, "GET", "/v2/_catalog").json["repositories"]
        assert catalog == sorted([own, "public/app"])


@pytest.mark.parametrize("count", [10**12, 10**17])
def test_a_page_of_the_catalog_has_what_there_is_however_much_is_asked_for(place: Place, count: int) -> None:
    reply = place.ask(basic("worker", PASSWORD), "GET", f"/v2/_catalog?n={count}")
    assert reply.json["repositories"] == ["public/app", "pull/app", "push/app"]


def test_a_session_is_of_its_repository_and_of_those_that_may_push_there(place: Place) -> None:
    root, worker = basic("root", PASSWORD), place.given["password"]
    begun = place.ask(root, "POST", "/v2/secret/app/blobs/uploads/")
    assert begun.status == 202
    there = begun.location
    here = there.replace("secret/app", "push/app")
    for method, query, body in (
        ("GET", "", b""),
        ("PATCH", "", b"x"),
        ("PUT", f"?digest=sha256:{'0' * 64}", b""),
        ("DELETE", "", b""),
    ):
        assert place.ask(worker, method, here + query, body).status == 404
        assert place.ask(worker, method, there + query, body).status == 403
    assert place.ask(root, "GET", there).status == 204


@pytest.mark.parametrize(
    "user", ["admin", "root", "registry", "stowage", "harbor", "anonymous", "authenticated", "token"]
)
def test_there_is_no_user_that_the_operator_has_not_made(tmp_path_factory: pytest.TempPathFactory, user: str) -> None:
    (tmp := tmp_path_factory.mktemp("bare") / "htpasswd").write_text("")
    with serving(tmp.parent, {"auth": {"htpasswd": {"file": tmp}}}) as service:
        for password in ("", user, "admin", "password", "Harbor12345"):
            headers = {"Authorization": basic(user, password)}
            assert service.call("GET", "/v2/", headers=headers).status == 401
            assert service.call("GET", "/auth/token", headers=headers).status == 401
        assert json.loads(service.call("GET", "/v2/").body)["errors"][0]["code"] == "UNAUTHORIZED"
