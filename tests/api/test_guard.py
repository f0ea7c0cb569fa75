"""A registry with users and rules, as its clients meet it: challenges, refusals, and what they do not tell."""

from __future__ import annotations

import contextlib
import json
import re
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import bcrypt
import pytest

from registry.api.access import Action
from registry.api.http.routing import OciRoute
from registry.auth.identity import ANONYMOUS, Identity, Kind
from registry.auth.rights import Rights, Verdict
from registry.config.access_sections import AuthSettings
from registry.database.statement import Statement
from registry.images.manifests import Manifests
from registry.server.application import CHAPTERS
from tests.api.asgi import HOST
from tests.api.service import Reply, Service, serving
from tests.support.authority import Authority
from tests.support.payloads import Blob, image

RULES: list[dict[str, Any]] = [
    {"who": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
    {"who": ["alice"], "repositories": ["**"], "actions": ["pull", "push", "delete"]},
    {"who": ["bob"], "repositories": ["team/**"], "actions": ["pull"]},
    {"who": ["carol"], "repositories": ["carol/**"], "actions": ["push"]},
]
PASSWORDS = {"alice": "wonderland", "bob": "builder", "carol": "singer"}
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
CHALLENGE = re.compile(
    r'Bearer realm="(?P<realm>[^"]*)",service="registry"(?:,scope="(?P<scope>[^"]*)")?(?:,error="(?P<error>\w+)")?'
)
ROUTES = sorted(
    (method, route.path, route.action)
    for route in (cast("OciRoute", route) for chapter in CHAPTERS for route in chapter.router.routes)
    for method in route.methods or ()
)


class Registry:
    """A service of which three users have passwords."""

    def __init__(self, service: Service, users: Path) -> None:
        self.service = service
        self.users = users

    def call(self, method: str, path: str, user: str = "", /, **headers: str) -> Reply:
        """As a user by Basic, or without credentials."""
        if user:
            headers["Authorization"] = basic(user, PASSWORDS[user])
        return self.service.call(method, path, headers=headers)

    def with_token(self, token: str, method: str, path: str) -> Reply:
        return self.service.call(method, path, headers={"Authorization": f"Bearer {token}"})

    def token(self, user: str, *scopes: str) -> str:
        reply = self.call("GET", f"/auth/token?{urlencode([('scope', scope) for scope in scopes])}", user)
        assert reply.status == 200, reply
        return str(reply.json["token"])

    def push(self, repository: str) -> None:
        headers = {"Authorization": basic("alice", PASSWORDS["alice"]), "Content-Type": IMAGE.media_type}
        blob, manifest = f"/v2/{repository}/blobs/uploads/?digest={CONFIG.digest}", f"/v2/{repository}/manifests/one"
        for method, target, body in (("POST", blob, CONFIG.data), ("PUT", manifest, IMAGE.data)):
            assert self.service.call(method, target, body, headers).status == 201


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def challenge(reply: Reply) -> re.Match[str]:
    """The only one of an answer 401."""
    assert reply.status == 401, reply
    assert reply.headers["docker-distribution-api-version"] == "registry/2.0"
    found = CHALLENGE.fullmatch(reply.headers["www-authenticate"])
    assert found, reply.headers["www-authenticate"]
    assert found["realm"] == f"http://{HOST}/auth/token"
    return found


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with opened(tmp_path_factory.mktemp("guard"), access={"rules": RULES}) as made:
        for repository in ("public/app", "team/app", "secret/app"):
            made.push(repository)
        yield made


@contextlib.contextmanager
def opened(directory: Path, **sections: Any) -> Iterator[Registry]:
    """A registry with these sections beside the users."""
    users = directory / "htpasswd"
    write_users(users, PASSWORDS)
    with serving(directory, {"auth": {"htpasswd": {"file": users}}, **sections}) as service:
        yield Registry(service, users)


def write_users(path: Path, passwords: Mapping[str, str]) -> None:
    new = path.with_name("new")
    new.write_text(
        "".join(
            f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
            for user, password in passwords.items()
        )
    )
    new.replace(path)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic Og=="}])
@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_the_version_asks_for_credentials_also_where_some_of_it_is_public(
    registry: Registry, path: str, headers: dict[str, str]
) -> None:
    """Check 2."""
    found = challenge(registry.call("GET", path, **headers))
    assert (found["scope"], found["error"]) == (None, None)


def test_the_version_is_told_to_any_good_credentials(registry: Registry) -> None:
    """Check 2."""
    assert registry.call("GET", "/v2/", "bob").status == 200
    assert registry.with_token(registry.token(""), "GET", "/v2/").status == 200, "an anonymous token is one"
    assert registry.with_token(registry.token("bob"), "GET", "/v2/").status == 200


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (basic("bob", "wrong"), None),
        (basic("nobody", "wrong"), None),
        ("Basic !", None),
        ("Digest x", None),
        ("Bearer x", "invalid_token"),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", "invalid_token"),
    ],
)
@pytest.mark.parametrize("path", ["/v2/", "/v2/public/app/manifests/one"])
def test_wrong_credentials_are_refused_also_where_none_are_needed(
    registry: Registry, path: str, header: str, error: str | None
) -> None:
    """Check 2."""
    for _ in range(2):
        assert registry.call("GET", "/v2/public/app/manifests/one").status == 200
        assert challenge(registry.call("GET", path, Authorization=header))["error"] == error


def test_two_authorization_headers_are_no_request(registry: Registry) -> None:
    lines = [("Authorization", basic("alice", PASSWORDS["alice"])), ("Authorization", "Basic Og==")]
    assert registry.service.call("GET", "/v2/public/app/manifests/one", headers=lines).status == 400


def test_what_is_public_is_pulled_without_credentials_and_by_every_user(registry: Registry) -> None:
    """Check 3."""
    for user in ("", *PASSWORDS):
        assert registry.call("GET", "/v2/public/app/manifests/one", user).body == IMAGE.data
        assert registry.call("GET", f"/v2/public/app/blobs/{CONFIG.digest}", user).body == CONFIG.data


@pytest.mark.parametrize("repository", ["secret/app", "secret/absent"])
@pytest.mark.parametrize(
    "target",
    ["manifests/one", f"manifests/{IMAGE.digest}", f"blobs/{CONFIG.digest}", "tags/list", f"referrers/{IMAGE.digest}"],
)
def test_no_answer_tells_whether_a_hidden_repository_is_there(registry: Registry, repository: str, target: str) -> None:
    """Check 3."""
    for method in ("GET", "HEAD"):
        for _ in range(2):  # warm for alice
            registry.call(method, f"/v2/{repository}/{target}", "alice")
        reply = registry.call(method, f"/v2/{repository}/{target}")
        assert challenge(reply)["scope"] == f"repository:{repository}:pull"
        denied = registry.call(method, f"/v2/{repository}/{target}", "bob")
        assert denied.status == 403
        if method == "GET":
            assert (reply.code, denied.code) == ("UNAUTHORIZED", "DENIED")
        for said in (reply, denied):
            assert IMAGE.digest not in str(said.headers) + said.body.decode()


@pytest.mark.parametrize(("method", "template", "action"), ROUTES)
def test_every_route_is_decided(registry: Registry, method: str, template: str, action: Action) -> None:
    path = template.replace("{name:path}", "secret/app")
    for parameter, value in (("reference", "one"), ("digest", CONFIG.digest), ("upload", "0" * 32)):
        path = path.replace(f"{{{parameter}}}", value)
    for _ in range(2):
        reply = registry.call(method, path)
        if action is Action.NONE or action is Action.CATALOG:  # something is public
            assert reply.status in {200, 400}
        else:
            challenge(reply)
    if "{name" in template:
        assert registry.call(method, path, "bob").status == 403
        assert registry.call(method, path, "carol").status == 403
        token = registry.token("bob", "repository:secret/app:*", "repository:team/app:*")
        assert registry.with_token(token, method, path).status == 403


def test_what_is_no_name_is_said_so_at_once_and_not_remembered(registry: Registry) -> None:
    rights = registry.service.context.access.rights
    assert rights is not None
    known = rights.rules.find.cache_info().currsize
    for name in ("x" * 50_000, "public/" + "x" * 50_000, "public/../secret/app", "Public/app"):
        for headers in ({}, {"Authorization": basic("bob", PASSWORDS["bob"])}, {"Authorization": "Bearer none"}):
            reply = registry.service.call("GET", f"/v2/{name}/manifests/one", headers=headers)
            assert (reply.status, reply.code) == (400, "NAME_INVALID")
    assert rights.rules.find.cache_info().currsize == known


def test_tokens_of_one_identity_are_one_for_the_rules(registry: Registry) -> None:
    rights = registry.service.context.access.rights
    assert rights is not None
    for _ in range(2):
        token = registry.token("bob", "repository:team/app:pull")
        assert registry.with_token(token, "GET", "/v2/team/app/manifests/one").status == 200
    known = rights.rules.find.cache_info().currsize
    for _ in range(5):
        token = registry.token("bob", "repository:team/app:pull", "repository:team/other:pull")
        assert registry.with_token(token, "GET", "/v2/team/app/manifests/one").status == 200
    assert rights.rules.find.cache_info().currsize <= known + 1  # team/other, as the token was made


def test_a_push_with_the_right_to_pull_alone_is_denied_and_not_asked_for_again(registry: Registry) -> None:
    """Check 6."""
    token = registry.token("bob", "repository:team/app:pull,push")
    assert registry.with_token(token, "GET", "/v2/team/app/manifests/one").status == 200
    reply = registry.with_token(token, "POST", "/v2/team/app/blobs/uploads/")
    assert (reply.status, reply.code) == (403, "DENIED")


def test_a_token_that_allows_too_little_is_told_what_another_would_need(registry: Registry) -> None:
    """Check 7."""
    token = registry.token("alice", "repository:team/app:pull")
    found = challenge(registry.with_token(token, "POST", "/v2/team/app/blobs/uploads/"))
    assert (found["scope"], found["error"]) == ("repository:team/app:pull,push", "insufficient_scope")
    found = challenge(registry.with_token(token, "DELETE", "/v2/team/app/manifests/two"))
    assert (found["scope"], found["error"]) == ("repository:team/app:delete", "insufficient_scope")
    found = challenge(registry.with_token(token, "GET", "/v2/secret/app/manifests/one"))
    assert found["scope"] == "repository:secret/app:pull"
    found = challenge(registry.with_token(registry.token(""), "GET", "/v2/team/app/manifests/one"))
    assert (found["scope"], found["error"]) == ("repository:team/app:pull", "insufficient_scope")


def test_a_token_is_no_password(registry: Registry) -> None:
    token = registry.token("alice", "repository:team/app:pull")
    challenge(registry.call("GET", "/v2/team/app/manifests/one", Authorization=basic("alice", token)))


def test_a_blob_is_mounted_where_its_source_may_be_read_and_uploaded_where_not(registry: Registry) -> None:
    """Checks 8 and 9."""

    def mount(user: str, target: str, source: str) -> int:
        path = f"/v2/{target}/blobs/uploads/?mount={CONFIG.digest}{source}"
        return registry.call("POST", path, user).status

    assert mount("alice", "mounted/app", "&from=secret/app") == 201
    assert mount("carol", "carol/app", "&from=secret/app") == 202
    assert mount("carol", "carol/app", "&from=secret/absent") == 202
    assert mount("carol", "carol/app", "") == 202
    assert registry.call("HEAD", f"/v2/carol/app/blobs/{CONFIG.digest}", "carol").status == 404
    assert mount("carol", "carol/app", "&from=public/app") == 201
    token = registry.token("alice", "repository:bound/app:pull,push")
    path = f"/v2/bound/app/blobs/uploads/?mount={CONFIG.digest}&from=secret/app"
    assert registry.with_token(token, "POST", path).status == 202, "its owner may read the source, the token may not"


@pytest.mark.parametrize(
    ("target", "digest"),
    [
        (f"blobs/{CONFIG.digest}", CONFIG.digest),
        (f"manifests/{IMAGE.digest}", IMAGE.digest),
        ("manifests/one", IMAGE.digest),
    ],
    ids=["blob", "manifest", "tag"],
)
def test_a_look_of_a_caller_that_may_not_push_keeps_nothing(tmp_path: Path, target: str, digest: str) -> None:
    with opened(tmp_path, access={"rules": RULES}, gc={"lease": 0.001}) as registry:  # each look renews it
        registry.push("team/app")

        def until() -> float:
            statement = Statement("SELECT leased_until FROM blob WHERE digest = :digest")
            with registry.service.registry.backends.database.snapshot() as connection:
                (until,) = connection.execute(statement, {"digest": digest}).one()
            return float(until)

        for user, is_kept in (("bob", False), ("bob", False), ("alice", True), ("alice", True), ("bob", False)):
            before = until()
            time.sleep(0.002)
            assert registry.call("HEAD", f"/v2/team/app/{target}", user).status == 200
            assert (until() > before) == is_kept


def test_a_caller_that_may_not_push_is_answered_from_memory_whatever_lease_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, access={"rules": RULES}, gc={"lease": 0.001}) as registry:
        registry.push("team/app")
        path = f"/v2/team/app/manifests/{IMAGE.digest}"
        assert registry.call("HEAD", path, "bob").status == 200
        monkeypatch.setattr(Manifests, "find", None)
        assert registry.call("HEAD", path, "bob").status == 200
        assert registry.call("HEAD", path, "alice").status == 500


def test_a_user_that_is_gone_or_has_another_password_is_refused_at_the_next_look(tmp_path: Path) -> None:
    with opened(tmp_path, access={"rules": RULES}) as registry:
        registry.push("team/app")
        path = "/v2/team/app/manifests/one"
        token = registry.token("bob", "repository:team/app:pull")
        header = basic("bob", PASSWORDS["bob"])
        for changed in ({"bob": "changed"}, {}):
            write_users(registry.users, PASSWORDS)
            look(registry)
            fresh = registry.token("bob", "repository:team/app:pull")
            assert registry.with_token(fresh, "GET", path).status == 200
            assert registry.call("GET", path, Authorization=header).status == 200
            write_users(registry.users, {"alice": PASSWORDS["alice"]} | changed)
            look(registry)
            for old in (token, fresh):
                challenge(registry.with_token(old, "GET", path))
            challenge(registry.call("GET", path, Authorization=header))


def look(registry: Registry) -> None:
    """As the process does it twice a second."""
    assert registry.service.context.authentication is not None
    registry.service.context.authentication.directory.look()


@pytest.mark.parametrize(
    ("user", "expected"),
    [("", ["public/app"]), ("alice", ["public/app", "secret/app", "team/app"]), ("bob", ["public/app", "team/app"])],
)
def test_the_catalog_shows_each_caller_its_own(tmp_path: Path, user: str, expected: list[str]) -> None:
    with opened(tmp_path, access={"rules": RULES}) as registry:
        for repository in ("public/app", "team/app", "secret/app"):
            registry.push(repository)
        assert registry.call("GET", "/v2/_catalog", user).json["repositories"] == expected
        token = registry.token(user, "registry:catalog:*")
        assert registry.with_token(token, "GET", "/v2/_catalog").json["repositories"] == expected
        first = registry.call("GET", "/v2/_catalog?n=1", user)
        assert first.json["repositories"] == expected[:1]
        assert ("link" in first.headers) == (len(expected) > 1)
        if user:
            found = challenge(registry.with_token(registry.token(user), "GET", "/v2/_catalog"))
            assert found["scope"] == "registry:catalog:*"


def test_pages_of_the_catalog_are_full_where_few_names_of_many_are_visible(tmp_path: Path) -> None:
    """Check 19."""
    with opened(tmp_path, access={"rules": RULES}) as registry:
        names = [f"{first}/r{number}" for first in ("a", "team.x", "team", "z") for number in range(30)]
        for name in names:
            registry.push(name)
        found, last = list[str](), ""
        while True:
            reply = registry.call("GET", f"/v2/_catalog?n=7&last={last}", "bob")
            found += reply.json["repositories"]
            if "link" not in reply.headers:
                break
            assert len(reply.json["repositories"]) == 7
            last = found[-1]
        assert found == sorted(name for name in names if name.startswith("team/"))


def test_where_nothing_is_public_the_catalog_asks_for_credentials(tmp_path: Path) -> None:
    with opened(tmp_path) as registry:
        assert challenge(registry.call("GET", "/v2/_catalog"))["scope"] == "registry:catalog:*"


def test_users_without_rules_may_push_pull_and_delete_everywhere_and_a_stranger_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as registry:
        registry.push("team/app")
        assert registry.call("GET", "/v2/team/app/manifests/one", "bob").status == 200
        challenge(registry.call("GET", "/v2/team/app/manifests/one"))
        assert registry.call("DELETE", "/v2/team/app/manifests/one", "bob").status == 202


def test_rules_without_users_let_in_what_is_public(tmp_path: Path) -> None:
    with serving(tmp_path, {"access": {"rules": RULES}}) as service:
        assert service.call("GET", "/v2/public/app/manifests/one").status == 404
        assert service.call("GET", "/v2/team/app/manifests/one").status == 401


def test_the_realm_has_the_name_by_which_the_client_calls_and_the_scheme_of_the_external_url(tmp_path: Path) -> None:
    http = {"external_url": "https://registry.example.org/team"}
    with opened(tmp_path, http=http) as registry:
        realm = 'Bearer realm="https://{}/team/auth/token",service="registry.example.org"'
        for host in ("registry.example.org", "10.0.0.1:5000", "[::1]:5000"):
            assert registry.call("GET", "/v2/", Host=host).headers["www-authenticate"] == realm.format(host)
        for host in ("", 'x"y', "a b", "a/b"):
            expected = realm.format("registry.example.org")
            assert registry.call("GET", "/v2/", Host=host).headers["www-authenticate"] == expected
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example.org", "X-Forwarded-Prefix": "/x"}
        found = registry.call("GET", "/v2/", **forwarded).headers["www-authenticate"]
        assert found.startswith('Bearer realm="https://hub.example.org/team/auth/token"')


def test_a_challenge_has_nothing_that_a_client_could_put_into_it(registry: Registry) -> None:
    for name in ('a"b', "a\\b", "a,error=x", "\N{SNOWMAN}", 'x",realm="http://evil/'):
        reply = registry.call("GET", f"/v2/{name}/manifests/one")
        assert reply.status in {400, 401}
        if reply.status == 401:
            assert reply.headers["www-authenticate"].count('"') == 6


def test_the_journal_has_the_name_and_the_address_of_the_caller_that_moved_a_tag(tmp_path: Path) -> None:
    with opened(tmp_path, access={"rules": RULES}) as registry:
        registry.push("team/app")
        assert registry.call("DELETE", "/v2/team/app/manifests/one", "alice").status == 202
        assert registry.call("DELETE", f"/v2/team/app/manifests/{IMAGE.digest}", "alice").status == 202
        (journal,) = (registry.service.root / "team/app/.journal").iterdir()
        records = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(record["op"], record["actor"], record["address"]) for record in records] == [
        (operation, "user:alice", "127.0.0.1") for operation in ("put", "untag", "delete")
    ]


def test_a_certificate_that_ends_while_its_connection_is_open_is_none_any_more(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with serving(tmp_path, {"auth": {"certificates": {}}}) as service:
        access = service.context.access
        for days, identity in ((1.0, "cert:urn:ci"), (-1.0, "anonymous")):
            peer = access.peer("192.0.2.1", authority.client("urn:ci", days=days).der)
            assert peer.certified is not None
            caller = access.identify(peer, [], None)
            assert (caller.identity.who, caller.certified is None) == (identity, days < 0)
        assert access.identify(access.peer("192.0.2.1", None), [], None).identity.is_anonymous


def test_the_certificate_of_a_proxy_that_passes_others_on_is_none_of_its_clients(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    proxy, client = authority.client("urn:proxy").der, authority.client("urn:client")
    header = (b"client-cert", b":" + b64encode(client.der) + b":")
    with serving(tmp_path, {"auth": {"certificates": {"header": "Client-Cert"}}}) as service:
        access = service.context.access
        for address, headers, expected in (
            ("127.0.0.1", [], "anonymous"),
            ("127.0.0.1", [header], "cert:urn:client"),
            ("127.0.0.1", [header, header], "anonymous"),
            ("192.0.2.1", [], "cert:urn:proxy"),
            ("192.0.2.1", [header], "cert:urn:proxy"),
        ):
            assert access.identify(access.peer(address, proxy), headers, None).identity.who == expected


@pytest.mark.parametrize("path", ["/metrics", "/api/docs", "/api/openapi.json"])
def test_protected_metrics_and_the_documents_are_for_known_callers(tmp_path: Path, path: str) -> None:
    with opened(tmp_path, access={"rules": RULES}, metrics={"protect": True}) as registry:
        for method in ("GET", "HEAD") if path != "/api/docs" else ("GET",):
            assert registry.call(method, path, "bob").status == 200
            assert registry.with_token(registry.token("bob"), method, path).status == 200
            assert registry.call(method, path, Authorization=basic("bob", "wrong")).status == 401
            assert registry.with_token(registry.token(""), method, path).status == 401
            challenge(registry.call(method, path))


def test_protected_metrics_are_not_for_any_account_of_a_provider() -> None:
    issuer = {"issuer": "https://ci.example.org", "audiences": ["registry"]}
    auth = AuthSettings.model_validate(
        {"oidc": [{"name": "ci", **issuer}, {"name": "own", **issuer, "any_identity": True}]}
    )
    rights = Rights.of(auth, None)
    for identity, verdict in (
        (ANONYMOUS, Verdict.TOKEN_NEEDED),
        (Identity(Kind.OIDC, "ci/stranger"), Verdict.DENIED),
        (Identity(Kind.OIDC, "own/alice"), Verdict.ALLOWED),
        (Identity(Kind.CERTIFICATE, "urn:prometheus"), Verdict.ALLOWED),
    ):
        assert rights.decide_metrics(identity) is verdict


@pytest.mark.parametrize(("workers", "threads"), [(1, 2), (2, 1), ("auto", 1)])
def test_workers_have_no_more_threads_for_passwords_than_there_are_cores(
    tmp_path: Path, workers: int | str, threads: int
) -> None:
    with opened(tmp_path, http={"workers": workers}) as registry:
        assert cast("Any", registry.service.context.authentication)._pool._executor._max_workers == threads
