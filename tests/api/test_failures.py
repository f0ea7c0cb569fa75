"""Storage or database fails: the client is told that and nothing more, and what was asked can be asked again."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from registry.database.errors import DatabaseUnavailable
from registry.storage.errors import StorageError, StorageFull, StorageUnavailable, Throttled
from registry.storage.local.driver import LocalDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.api.service import Reply, Service, serving
from tests.support.payloads import MANIFEST, Blob, image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPO = "failing/storage"
CONFIG = Blob(b"{}")
LARGE = Blob(bytes(range(256)) * 400)
IMAGE = image(CONFIG, [])
SECRET = "a-path-or-a-password-of-the-machine"
V2 = f"/v2/{REPO}"
PUT_IMAGE = {"Content-Type": MANIFEST}

EFFECTS = [
    (StorageUnavailable, 503, "UNAVAILABLE", True),
    (StorageFull, 507, "UNAVAILABLE", False),
    (Throttled, 503, "UNAVAILABLE", True),
    (StorageError, 503, "UNAVAILABLE", True),
]

REQUESTS: dict[str, tuple[str, Callable[[Service], Reply]]] = {
    "HEAD blob": ("stat", lambda service: service.call("HEAD", f"{V2}/blobs/{LARGE.digest}")),
    "GET blob": ("open", lambda service: service.call("GET", f"{V2}/blobs/{LARGE.digest}")),
    "GET small blob": ("open", lambda service: service.call("GET", f"{V2}/blobs/{CONFIG.digest}")),
    "GET part": (
        "open",
        lambda service: service.call("GET", f"{V2}/blobs/{LARGE.digest}", headers={"Range": "bytes=1-2"}),
    ),
    "GET manifest": ("read", lambda service: service.call("GET", f"{V2}/manifests/one")),
    "PUT manifest": (
        "write",
        lambda service: service.call("PUT", f"{V2}/manifests/two", IMAGE.data + b" ", PUT_IMAGE),
    ),
    "record": ("append", lambda service: service.call("PUT", f"{V2}/manifests/two", IMAGE.data, PUT_IMAGE)),
    "untag": ("append", lambda service: service.call("DELETE", f"{V2}/manifests/one")),
    "begin": ("start_upload", lambda service: service.call("POST", f"{V2}/blobs/uploads/")),
    "write": (
        "writer.write",
        lambda service: service.call("POST", f"{V2}/blobs/uploads/?digest={Blob(b'a').digest}", b"a"),
    ),
    "publish": (
        "writer.publish",
        lambda service: service.call("POST", f"{V2}/blobs/uploads/?digest={Blob(b'b').digest}", b"b"),
    ),
    "delete": ("delete_once", lambda service: service.call("DELETE", f"{V2}/blobs/{LARGE.digest}")),
}


@pytest.fixture
def seeded(tmp_path: Path) -> Path:
    with serving(tmp_path) as service:
        for blob in (CONFIG, LARGE):
            service.push_blob(REPO, blob)
        service.push(REPO, "one", IMAGE)
        service.registry.fold_waiting()
    return tmp_path


def failing(service: Service, *faults: Fault) -> None:
    """From now on the service's storage fails."""
    driver = service.registry.backends.driver
    assert isinstance(driver, FaultyDriver)
    driver._plan = faults


def on_faulty(directory: Path) -> FaultyDriver:
    """The storage of ``directory``, which can be told to fail."""
    return FaultyDriver(LocalDriver(directory / "root", fsync=False))


def assert_refused(reply: Reply, status: int, code: str, *, retry: bool, what: str = "") -> None:
    """An answer says what happened and shows nothing of the machine."""
    head = what.startswith("HEAD")
    assert (reply.status, reply.code) == (status, None if head else code), (what, reply)
    assert ("retry-after" in reply.headers) is retry
    assert SECRET not in reply.body.decode()
    assert SECRET not in str(reply.headers)
    if not head:
        assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("effect", "status", "code", "retry"), EFFECTS, ids=str)
def test_storage_that_fails(seeded: Path, effect: type[StorageError], status: int, code: str, retry: bool) -> None:
    with serving(seeded, driver=on_faulty(seeded)) as service:
        assert service.call("GET", f"{V2}/tags/list").status == 200  # the first touch is a test of its own
        for what, (operation, ask) in REQUESTS.items():
            failing(service, Fault(operation, times=None, effect=effect(f"/srv/{SECRET}", f"at /srv/{SECRET}")))
            assert_refused(ask(service), status, code, retry=retry, what=what)
            failing(service)
            again = ask(service)
            assert again.status < 300 or (what in {"untag", "delete"} and again.status == 404), (what, again)


def test_a_repository_that_cannot_be_read_at_its_first_touch_is_not_unknown(seeded: Path) -> None:
    with serving(seeded, driver=on_faulty(seeded)) as service:
        failing(service, Fault("*", f"{REPO}/*", times=None, effect=StorageUnavailable(SECRET, SECRET)))
        for method, target, body in (
            ("GET", f"{V2}/manifests/one", b""),
            ("GET", f"{V2}/tags/list", b""),
            ("GET", f"{V2}/referrers/{IMAGE.digest}", b""),
            ("PUT", f"{V2}/manifests/one", IMAGE.data),
            ("DELETE", f"{V2}/manifests/one", b""),
        ):
            reply = service.call(method, target, body, PUT_IMAGE if body else None)
            assert_refused(reply, 503, "UNAVAILABLE", retry=True)
        failing(service)
        assert service.call("GET", f"{V2}/manifests/one").body == IMAGE.data


def test_a_repository_whose_index_is_damaged_is_not_unknown_and_is_left_alone(seeded: Path) -> None:
    (seeded / "root" / REPO / "index.json").write_bytes(b"{")
    with serving(seeded) as service:
        assert_refused(service.call("GET", f"{V2}/manifests/one"), 503, "UNAVAILABLE", retry=True)
        assert_refused(service.call("PUT", f"{V2}/manifests/x", IMAGE.data, PUT_IMAGE), 503, "UNAVAILABLE", retry=True)
    assert (seeded / "root" / REPO / "index.json").read_bytes() == b"{"


def test_a_database_that_fails(seeded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {what: ask for what, (_, ask) in REQUESTS.items()}
    asked["catalog"] = lambda service: service.call("GET", "/v2/_catalog")
    del asked["begin"]  # the directory alone knows a session without bytes
    with serving(seeded) as service:
        for what, ask in asked.items():
            with monkeypatch.context() as patch:
                let_database_fail(service, patch)
                assert_refused(ask(service), 503, "UNAVAILABLE", retry=True, what=what)
            assert ask(service).status < 300, what


def test_an_upload_that_began_without_the_database_goes_on_when_it_is_back(
    seeded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = Blob(b"patient")
    with serving(seeded) as service:
        with monkeypatch.context() as patch:
            let_database_fail(service, patch)
            session = service.begin(REPO)
            closed = service.call("PUT", f"{session}?digest={blob.digest}", blob.data)
            assert_refused(closed, 503, "UNAVAILABLE", retry=True)
        assert service.call("PUT", f"{session}?digest={blob.digest}", blob.data).status == 201
        assert service.call("GET", f"{V2}/blobs/{blob.digest}").body == blob.data


def let_database_fail(service: Service, patch: pytest.MonkeyPatch) -> None:
    """Every transaction of the service fails, until ``patch`` is undone."""

    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailable(SECRET)

    for transaction in ("snapshot", "autocommit", "transaction"):
        patch.setattr(service.registry.backends.database, transaction, fail)


def test_a_database_whose_file_is_no_database_is_unavailable(seeded: Path) -> None:
    with serving(seeded) as service:
        path = service.registry.backends.database.path
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE repository RENAME TO gone")
        connection.close()
        assert_refused(service.call("GET", f"{V2}/tags/list"), 503, "UNAVAILABLE", retry=True)
        assert service.call("GET", "/livez").status == 200
        assert service.call("GET", "/readyz").status in {200, 503}


def test_readiness_names_what_does_not_answer(seeded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(seeded, driver=on_faulty(seeded)) as service:
        failing(service, Fault("check", times=None, effect=StorageUnavailable(SECRET, SECRET)))
        reply = service.call("GET", "/readyz")
        assert (reply.status, reply.json) == (503, {"status": "unavailable", "problems": ["storage"]})

        def fail(*_: object) -> None:
            raise DatabaseUnavailable(SECRET)

        for transaction in ("snapshot", "autocommit"):
            monkeypatch.setattr(service.registry.backends.database, transaction, fail)
        assert service.call("GET", "/readyz").json["problems"] == ["storage", "database"]
        assert service.call("GET", "/livez").json == {"status": "ok", "problems": []}


def test_an_unforeseen_error_shows_nothing(seeded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(seeded) as service:

        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError(SECRET)

        monkeypatch.setattr(service.registry.manifests, "tags", fail)
        assert_refused(service.call("GET", f"{V2}/tags/list"), 500, "UNKNOWN", retry=False)


def test_deleting_that_is_disabled_is_refused_and_says_what_is_allowed(seeded: Path) -> None:
    with serving(seeded, {"storage": {"delete": False}}) as service:
        for target in (f"{V2}/manifests/one", f"{V2}/manifests/{IMAGE.digest}", f"{V2}/blobs/{LARGE.digest}"):
            reply = service.call("DELETE", target)
            assert (reply.status, reply.code) == (405, "UNSUPPORTED")
            assert "GET" in reply.headers["allow"]
            assert service.call("GET", target).status == 200
