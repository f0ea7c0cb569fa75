"""The audit log of requests: each event with what is known of it, and nothing for what is none."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from registry.api.access import Caller
from registry.api.http.audit import TAGS_IN_A_LINE, Audit, events_of_put
from registry.api.http.small_body import FORM
from registry.api.token import EXCHANGE
from registry.auth.identity import Identity, Kind
from registry.auth.keys.key_record import KeyRecord
from registry.auth.keys.key_secret import KeySecret
from registry.auth.keys.key_store import KeyStore
from registry.observability.audit import AuditLog, Event
from tests.api.service import Reply, Service, serving
from tests.api.test_guard import basic, write_users
from tests.auth.signing import jwks, rsa, signed
from tests.support.payloads import Blob, image

CONFIG, OTHER = Blob(b"{}"), Blob(b'{"other": 1}')
ONE, TWO = image(CONFIG, []), image(OTHER, [])
PASSWORDS = {"alice": "wonder-land-7", "bob": "can-we-fix-it-9"}
WRONG = "never-a-password-5"
RULES: list[dict[str, Any]] = [
    {"who": ["bob"], "repositories": ["team/**"], "actions": ["pull"]},
    {"who": ["alice", "oidc:ci/octo"], "repositories": ["**"], "actions": ["pull", "push", "delete"]},
]
IMMUTABLE = [{"repositories": ["team/**"], "tags": ["v*"]}]
FAR = 4_000_000_000
ALICE = {"kind": "user", "name": "alice"}
BOB = {"kind": "user", "name": "bob"}
CLAIMS = {"iss": "https://ci.example.org", "aud": "here", "sub": "subject-1", "user": "octo", "exp": FAR}
OCTO = {"kind": "oidc", "name": "oidc:ci/octo", "provider": "ci", "sub": "subject-1"}


class Place:
    """A service with an audit log."""

    def __init__(self, service: Service, directory: Path, log: Path) -> None:
        self.service = service
        self.directory = directory
        self.log = log
        self.secret = KeySecret.make()
        backends = service.registry.backends
        record = KeyRecord.make(self.secret, owner="bob", scope=None, created=0, expires=FAR, description="")
        KeyStore(backends.driver, backends.database).add(record._replace(created=FAR - 86400))

    def call(self, method: str, path: str, user: str = "", body: bytes = b"", /, **headers: str) -> Reply:
        if user:
            headers["Authorization"] = basic(user, PASSWORDS[user])
        return self.service.call(method, path, body, headers)

    def put(self, reference: str, manifest: Any = ONE, user: str = "alice", name: str = "team/app") -> Reply:
        path, kind = f"/v2/{name}/manifests/{reference}", {"Content-Type": manifest.media_type}
        return self.call("PUT", path, user, manifest.data, **kind)

    def blob(self, blob: Blob, name: str) -> None:
        assert self.call("POST", f"/v2/{name}/blobs/uploads/?digest={blob.digest}", "alice", blob.data).status == 201

    def token(self, scope: str, user: str = "", **headers: str) -> Reply:
        return self.call("GET", f"/auth/token?{urlencode({'scope': scope})}", user, **headers)

    def form(self, **fields: str) -> Reply:
        return self.service.call("POST", "/auth/token", urlencode(fields).encode(), {"Content-Type": FORM})

    def lines(self, doing: Callable[[], Reply]) -> list[dict[str, Any]]:
        """What doing it writes, without what every line has, which is checked here."""
        before = len(self.log.read_text().splitlines())
        reply = doing()
        found = [json.loads(line) for line in self.log.read_text().splitlines()[before:]]
        for line in found:
            assert line.pop("time")
            assert line.pop("logger") == "audit"
            assert line.pop("address") == "127.0.0.1"
            assert line.pop("request_id") == reply.headers["x-request-id"]
            assert line.pop("answer") == reply.status
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("audit")
    write_users(directory / "htpasswd", PASSWORDS)
    (directory / "jwks").write_bytes(jwks(rsa()))
    provider = {
        "name": "ci",
        "issuer": CLAIMS["iss"],
        "audiences": ["here"],
        "user": "user",
        "jwks_file": directory / "jwks",
    }
    sections: dict[str, dict[str, Any]] = {
        "auth": {
            "htpasswd": {"file": directory / "htpasswd"},
            "oidc": [provider],
            "token": {"refresh": True},
            "throttle": {"failures": 3, "seconds": 300},
        },
        "access": {"rules": RULES, "immutable": IMMUTABLE},
        "log": {"audit": {"file": directory / "log"}},
    }
    with serving(directory, sections) as service:
        made = Place(service, directory, directory / "log")
        for blob in (CONFIG, OTHER):
            made.blob(blob, "team/app")
        yield made


def test_a_push_tells_new_tags_moved_ones_and_a_manifest_alone(place: Place) -> None:
    common = {"who": ALICE, "rule": 2, "repository": "team/app"}
    one = common | {"digest": ONE.digest}
    assert place.lines(lambda: place.put(ONE.digest)) == [{"event": "put", **one, "tags": []}]
    assert place.lines(lambda: place.put("latest")) == [{"event": "tag-set", **one, "tags": ["latest"]}]
    assert place.lines(lambda: place.put("latest")) == [{"event": "put", **one, "tags": ["latest"]}]
    assert place.lines(lambda: place.put(f"{TWO.digest}?tag=latest&tag=v1", TWO)) == [
        {"event": "tag-set", **common, "digest": TWO.digest, "tags": ["v1"]},
        {"event": "tag-moved", **common, "digest": TWO.digest, "tags": ["latest"], "old": {"latest": ONE.digest}},
    ]
    refused = place.lines(lambda: place.put("v1"))
    assert refused[0].pop("reason").startswith("the tag v1 is immutable")
    assert refused == [{"event": "denied", "who": ALICE, "action": "push", "repository": "team/app"}]


def test_a_removal_tells_what_went(place: Place) -> None:
    place.blob(CONFIG, "gone")
    for reference in ("a", "b"):
        assert place.put(reference, name="gone").status == 201
    common = {"who": ALICE, "rule": 2, "repository": "gone"}
    one = common | {"digest": ONE.digest}
    by_tag, by_digest = "/v2/gone/manifests/a", f"/v2/gone/manifests/{ONE.digest}"
    blob = f"/v2/gone/blobs/{CONFIG.digest}"
    assert place.lines(lambda: place.call("DELETE", by_tag, "alice")) == [{"event": "untag", **one, "tags": ["a"]}]
    assert place.lines(lambda: place.call("DELETE", by_digest, "alice")) == [{"event": "delete", **one, "tags": ["b"]}]
    assert place.lines(lambda: place.call("DELETE", blob, "alice")) == [
        {"event": "delete", **common, "digest": CONFIG.digest}
    ]
    assert place.lines(lambda: place.call("DELETE", blob, "alice")) == [], "a refusal that is none of access"


@pytest.mark.parametrize("source", ["team/app", None])
def test_a_mount_tells_its_source(place: Place, source: str | None) -> None:
    target = "mounted" if source else "mounted/too"
    path = f"/v2/{target}/blobs/uploads/?mount={OTHER.digest}" + (f"&from={source}" if source else "")
    if source is None:
        assert place.lines(lambda: place.call("POST", path, "alice")) == [], "202: nothing was mounted"
        return
    line = {"event": "mount", "who": ALICE, "rule": 2, "repository": target, "digest": OTHER.digest, "source": source}
    assert place.lines(lambda: place.call("POST", path, "alice")) == [line]


def test_a_token_tells_its_holder_and_what_it_allows(place: Place) -> None:
    asked = "repository:team/app:pull,push"
    key = {"kind": "key", "name": f"key:{place.secret.key_id}", "key": place.secret.key_id, "owner": "bob"}
    pull = {"event": "token", "scope": "repository:team/app:pull"}
    assert place.lines(lambda: place.token(asked, "bob")) == [{**pull, "who": BOB}]
    assert place.lines(lambda: place.token(asked, Authorization=any_user(place.secret.text))) == [{**pull, "who": key}]
    password = {"grant_type": "password", "username": "bob", "password": PASSWORDS["bob"], "access_type": "offline"}
    refresh = place.form(**password).json["refresh_token"]
    again = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": asked}
    assert place.lines(lambda: place.form(**again)) == [{**pull, "who": BOB}]
    exchange = {"grant_type": EXCHANGE, "subject_token": signed(rsa(), "RS256", CLAIMS), "scope": asked}
    assert place.lines(lambda: place.form(**exchange)) == [{"event": "token", "scope": asked, "who": OCTO}]
    assert place.lines(lambda: place.token(asked)) == [], "that of an anonymous caller is a part of its pull"


@pytest.mark.parametrize(
    ("credentials", "who"),
    [
        (lambda _: basic("bob", WRONG), BOB),
        (lambda _: basic(WRONG, "x"), {"kind": "user"}),
        (lambda _: any_user(KeySecret.make().text), {"kind": "key"}),
        (lambda _: any_user("stw_typing-error"), {"kind": "key"}),
        (lambda _: any_user(signed(rsa(7), "RS256", CLAIMS)), {"kind": "token"}),
        (lambda _: f"Bearer {signed(rsa(7), 'RS256', CLAIMS)}", {"kind": "token"}),
        (lambda _: "Basic nonsense", {"kind": "unknown"}),
    ],
)
def test_a_login_that_fails_tells_no_secret_and_no_name_that_no_user_has(
    place: Place, credentials: Callable[[Place], str], who: dict[str, Any]
) -> None:
    header = credentials(place)
    for path in ("/v2/", "/auth/token", "/v2/team/app/manifests/latest"):
        (line,) = place.lines(partial(place.call, "GET", path, Authorization=header))
        assert line.pop("reason")
        assert line.pop("repository", "team/app") == "team/app"
        line["who"].pop("key", None)
        assert line == {"event": "login-failed", "who": who}
    assert WRONG not in place.log.read_text()


def test_a_refused_key_is_named_by_its_id(place: Place) -> None:
    secret = KeySecret.make()
    (line,) = place.lines(lambda: place.call("GET", "/v2/", Authorization=any_user(secret.text)))
    assert line["who"] == {"kind": "key", "key": secret.key_id}


def test_a_password_that_is_not_looked_at_is_throttled(place: Place) -> None:
    events = []
    for number in range(6):
        form = {"grant_type": "password", "username": "alice", "password": f"{WRONG}{number}"}
        events += [line["event"] for line in place.lines(partial(place.form, **form))]
    assert events == ["login-failed"] * 3 + ["throttled"] * 3


def test_a_refusal_tells_the_right_that_is_lacking(place: Place) -> None:
    (line,) = place.lines(lambda: place.put("latest", user="bob"))
    assert line.pop("reason")
    assert line == {"event": "denied", "who": BOB, "action": "push", "repository": "team/app"}
    anonymous = {"Authorization": f"Bearer {place.token('repository:team/app:pull').json['token']}"}
    (line,) = place.lines(lambda: place.call("GET", "/v2/team/app/tags/list", **anonymous))
    assert (line["event"], line["who"]) == ("denied", {"kind": "anonymous", "name": "anonymous"})


def test_a_key_tells_who_has_made_and_revoked_it_and_no_secret(place: Place) -> None:
    kind, made = {"Content-Type": "application/json"}, list[Reply]()

    def make() -> Reply:
        made.append(place.call("POST", "/api/v1/keys", "bob", b'{"days": 1}', **kind))
        return made[0]

    lines = place.lines(make)
    key = made[0].json
    common = {"who": BOB, "key": key["id"], "owner": "bob"}
    assert lines == [{"event": "key-created", **common, "expires": key["expires"]}]
    path = f"/api/v1/keys/{key['id']}"
    assert place.lines(lambda: place.call("DELETE", path, "bob")) == [{"event": "key-revoked", **common}]
    assert place.lines(lambda: place.call("DELETE", path, "bob")) == [], "there is none"
    assert key["secret"][10:] not in place.log.read_text()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"owner": "alice"}', {}),
        (b"{}", {"Origin": "https://evil.example.org"}),
    ],
    ids=["for another user", "from another site"],
)
def test_a_key_that_is_refused_is_told(place: Place, body: bytes, headers: dict[str, str]) -> None:
    kind = {"Content-Type": "application/json", **headers}
    (line,) = place.lines(lambda: place.call("POST", "/api/v1/keys", "bob", body, **kind))
    assert line.pop("reason")
    assert line.pop("who") in (BOB, {"kind": "anonymous", "name": "anonymous"})
    assert line.pop("action", "identity") == "identity"
    assert line == {"event": "denied"}


def test_what_is_read_and_what_asks_for_a_login_is_not_written(place: Place) -> None:
    assert place.put("read").status == 201
    for path in ("/v2/team/app/manifests/read", f"/v2/team/app/blobs/{CONFIG.digest}", "/v2/", "/v2/_catalog"):
        for method in ("GET", "HEAD"):
            for user in ("bob", ""):
                for _ in range(2):  # the second one from memory
                    assert place.lines(partial(place.call, method, path, user)) == []
    assert place.lines(lambda: place.call("PUT", "/v2/team/app/manifests/x")) == []


def test_without_rules_a_file_has_the_changes_of_anonymous_callers(tmp_path: Path) -> None:
    with serving(tmp_path, {"log": {"audit": {"file": tmp_path / "log"}}}) as service:
        service.push_blob("app", CONFIG)
        service.push("app", "one", ONE)
    (line,) = (json.loads(text) for text in (tmp_path / "log").read_text().splitlines())
    assert (line["event"], line["who"], line["address"]) == (
        "tag-set",
        {"kind": "anonymous", "name": "anonymous"},
        "127.0.0.1",
    )
    assert "rule" not in line


def test_a_push_succeeds_while_the_disk_of_the_audit_log_is_full(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    with serving(tmp_path, {"log": {"audit": {"file": tmp_path / "log"}}}) as service:
        service.push_blob("app", CONFIG)
        service.push("app", "one", ONE)
        text = service.call("GET", "/metrics").body.decode()
    assert "registry_audit_lines_dropped_total 1.0" in text


def test_what_a_thread_does_after_its_request_has_ended_is_written_all_the_same() -> None:
    written: list[bytes] = []
    audit = Audit(AuditLog(written.append), None, lambda _name: None)
    scope: dict[str, Any] = {"registry.caller": caller()}
    audit.end(scope, 499, "one")
    audit.note(scope, Event.PUT, repository="app")
    (line,) = (json.loads(text) for text in written)
    assert (line["event"], line["answer"], line["repository"]) == ("put", 499, "app")


def test_a_certificate_is_told_beside_the_credentials_that_counted_in_its_place() -> None:
    written: list[bytes] = []
    audit = Audit(AuditLog(written.append), None, lambda _name: None)
    certified = Identity(Kind.CERTIFICATE, "spiffe://org/ci")
    for identity in (caller().identity, certified):
        scope: dict[str, Any] = {"registry.caller": caller()._replace(identity=identity, certified=certified)}
        audit.note(scope, Event.PUT, repository="app")
        audit.end(scope, 201, "one")
    token, alone = (json.loads(text) for text in written)
    assert (token["who"], token["certificate"]) == (ALICE, "cert:spiffe://org/ci")
    assert (alone["who"]["name"], "certificate" in alone) == ("cert:spiffe://org/ci", False)


def test_many_tags_are_told_in_lines_that_a_pipe_takes_at_once() -> None:
    tags = [f"{number:03}{'x' * 125}" for number in range(25)]
    old = dict.fromkeys(tags[5:], f"sha512:{'0' * 128}")
    written: list[bytes] = []
    log = AuditLog(written.append)
    for event, fields in events_of_put(ONE.digest, tags, old):
        log.add(event, **fields)
    lines = [json.loads(text) for text in written]
    assert [tag for line in lines for tag in line["tags"]] == tags
    assert all(isinstance(line["tags"], list) and len(line["tags"]) <= TAGS_IN_A_LINE for line in lines)
    assert [line["event"] for line in lines] == ["tag-set", *["tag-moved"] * 4]
    assert max(map(len, written)) < 4096


def any_user(password: str) -> str:
    return f"Basic {b64encode(f'any:{password}'.encode()).decode()}"


def caller() -> Caller:
    return Caller("127.0.0.1", None, Identity(Kind.USER, "alice"))
