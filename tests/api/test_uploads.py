"""Pushing blobs in every shape that clients use (spec, "Pushing a blob")."""

from __future__ import annotations

import asyncio
import contextlib
import time
from base64 import b64encode
from typing import TYPE_CHECKING

import bcrypt
import pytest
from starlette.requests import Request

from registry.api.http.parameters import query_of
from registry.storage.driver import CHUNK_SIZE
from registry.storage.local.driver import LocalDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.api.asgi import Exchange
from tests.api.service import Reply, Service, serving
from tests.support.payloads import Blob, digest_of, image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from starlette.types import Message

    Push = Callable[[Service, str, bytes, str], Reply]

OCTETS = {"Content-Type": "application/octet-stream"}
DATA = bytes(range(256)) * 40
LARGE = bytes(range(251)) * (5 * CHUNK_SIZE // 502)
"""Two and a half chunks, and not a whole number of anything."""


def closing(location: str, data: bytes, algorithm: str) -> str:
    """Where a session is closed, its Location perhaps having a query of its own."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest_of(data, algorithm)}"


def parts(data: bytes, size: int) -> list[bytes]:
    """The bytes in pieces."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def single_post(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    target = f"/v2/{repository}/blobs/uploads/?digest={digest_of(data, algorithm)}"
    return service.call("POST", target, data, OCTETS)


def post_and_put(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    return service.call("PUT", closing(service.begin(repository), data, algorithm), data, OCTETS)


def stream_in_put(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    return service.call("PUT", closing(service.begin(repository), data, algorithm), parts(data, 1000), OCTETS)


def one_patch(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    return service.call("PUT", closing(_patch(service, service.begin(repository), data), data, algorithm))


def streamed_patch(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    return service.call("PUT", closing(_patch(service, service.begin(repository), parts(data, 4099)), data, algorithm))


def chunks(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    return service.call("PUT", closing(_chunks(service, repository, data), data, algorithm))


def chunks_and_the_last_in_put(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    cut = len(data) - len(data) // 4
    location = _chunks(service, repository, data[:cut])
    headers = OCTETS | ({"Content-Range": f"{cut}-{len(data) - 1}"} if len(data) > cut else {})
    return service.call("PUT", closing(location, data, algorithm), data[cut:], headers)


def announced_algorithm(service: Service, repository: str, data: bytes, algorithm: str) -> Reply:
    opened = service.call("POST", f"/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}")
    assert opened.status == 202
    return service.call("PUT", closing(_patch(service, opened.location, data), data, algorithm))


def _patch(service: Service, location: str, body: bytes | Sequence[bytes]) -> str:
    reply = service.call("PATCH", location, body, OCTETS)
    assert reply.status == 202, reply
    return reply.location


def _chunks(service: Service, repository: str, data: bytes) -> str:
    location, size, at = service.begin(repository), max(1, len(data) // 3), 0
    for part in parts(data, size):
        headers = {**OCTETS, "Content-Range": f"{at}-{at + len(part) - 1}"}
        reply = service.call("PATCH", location, part, headers)
        at += len(part)
        assert (reply.status, reply.headers["range"]) == (202, f"0-{at - 1}"), reply
        location = reply.location
    return location


SHAPES: list[Push] = [
    single_post,
    post_and_put,
    stream_in_put,
    one_patch,
    streamed_patch,
    chunks,
    chunks_and_the_last_in_put,
    announced_algorithm,
]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"x", DATA, LARGE], ids=["empty", "one byte", "small", "large"])
@pytest.mark.parametrize("push", SHAPES, ids=lambda shape: shape.__name__.replace("_", " "))
def test_a_blob_arrives_whole_in_every_shape(
    service: Service, repository: str, push: Push, data: bytes, algorithm: str
) -> None:
    digest = digest_of(data, algorithm)
    reply = push(service, repository, data, algorithm)
    assert reply.status == 201, reply
    assert reply.location == f"/v2/{repository}/blobs/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    found = service.call("GET", reply.location)
    assert (found.status, found.body) == (200, data)
    assert found.headers["content-length"] == str(len(data))


@pytest.mark.parametrize("push", SHAPES, ids=lambda shape: shape.__name__.replace("_", " "))
def test_bytes_of_another_digest_are_refused_and_nothing_is_there(
    service: Service, repository: str, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "sha256:" + "5" * 64
    monkeypatch.setattr("tests.api.test_uploads.digest_of", lambda *_: wrong)
    before = service.registry.uploads.count()
    reply = push(service, repository, DATA, "sha256")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert service.call("HEAD", f"/v2/{repository}/blobs/{wrong}").status == 404
    assert service.registry.uploads.count() == before, "nothing can mend that session: it is gone"


def test_other_bytes_in_one_request_are_refused_though_the_blob_comes_meanwhile(
    service: Service, repository: str
) -> None:
    backends, now = service.registry.backends, time.time()
    try:
        object.__setattr__(backends, "clock", lambda: now + 60)
        service.push_blob(repository, Blob(DATA))
        object.__setattr__(backends, "clock", lambda: now)
        reply = service.call("POST", f"/v2/{repository}/blobs/uploads/?digest={Blob(DATA).digest}", b"other bytes")
    finally:
        object.__setattr__(backends, "clock", time.time)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


def test_a_session_says_where_it_is_until_it_ends(service: Service, repository: str) -> None:
    location = service.begin(repository)
    assert location.startswith(f"/v2/{repository}/blobs/uploads/")
    for sent, said in ((b"", "0-0"), (DATA, f"0-{len(DATA) - 1}"), (DATA, f"0-{2 * len(DATA) - 1}")):
        if sent:
            location = _patch(service, location, sent)
        status = service.call("GET", location)
        assert (status.status, status.body) == (204, b"")
        assert (status.headers["range"], status.location) == (said, location)
        assert status.headers["docker-upload-uuid"] in location
    assert service.call("PUT", closing(location, DATA + DATA, "sha256")).status == 201
    for method in ("GET", "PATCH", "DELETE"):
        assert service.call(method, location).code == "BLOB_UPLOAD_UNKNOWN"


def test_closing_once_more_is_acknowledged_where_the_blob_is(service: Service, repository: str) -> None:
    """As a proxy does which lost the answer of one replica, and asks the next."""
    location = _patch(service, service.begin(repository), DATA)
    first = service.call("PUT", closing(location, DATA, "sha256"))
    again = service.call("PUT", closing(location, DATA, "sha256"))
    assert (first.status, again.status) == (201, 201)
    assert (again.location, again.headers["docker-content-digest"]) == (
        first.location,
        first.headers["docker-content-digest"],
    )
    assert service.call("PUT", closing(location, b"other bytes", "sha256")).code == "BLOB_UPLOAD_UNKNOWN"
    elsewhere = location.replace(repository, f"{repository}-other")
    assert service.call("PUT", closing(elsewhere, DATA, "sha256")).code == "BLOB_UPLOAD_UNKNOWN"
    assert service.call("DELETE", first.location).status == 202
    assert service.call("PUT", closing(location, DATA, "sha256")).code == "BLOB_UPLOAD_UNKNOWN"


def test_closing_once_more_waits_for_the_record_that_the_first_time_could_not_write(tmp_path: Path) -> None:
    """Until then a lost database would lose the layer, which a manifest named before it was there."""
    records = Fault("append", "*/.journal/*", first=2, times=2)
    driver = FaultyDriver(LocalDriver(tmp_path / "root", fsync=False), [records])
    layer, config = Blob(DATA), Blob(b"config")
    with serving(tmp_path, driver=driver) as service:
        service.push_blob("a/app", config)
        foreign = layer.descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar")
        assert service.push("a/app", "v1", image(config, [], elsewhere=[foreign])).status == 201
        location = _patch(service, service.begin("a/app"), DATA)
        closed = [service.call("PUT", closing(location, DATA, "sha256")).status for _ in range(3)]
        assert closed == [503, 503, 201]


def test_a_cancelled_session_is_gone(service: Service, repository: str) -> None:
    location = _patch(service, service.begin(repository), DATA)
    assert service.call("DELETE", location).status == 204
    assert service.call("GET", location).code == "BLOB_UPLOAD_UNKNOWN"
    assert service.call("PUT", closing(location, DATA, "sha256")).code == "BLOB_UPLOAD_UNKNOWN"


def test_a_session_belongs_to_its_repository(service: Service, repository: str) -> None:
    location = service.begin(repository)
    other = location.replace(repository, f"{repository}-other")
    for method in ("GET", "PATCH", "DELETE"):
        assert service.call(method, other, b"x").code == "BLOB_UPLOAD_UNKNOWN"
    assert service.call("GET", location).headers["range"] == "0-0"


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("start", [0, 5, len(DATA) - 1, len(DATA) + 1])
def test_a_chunk_out_of_order_is_told_where_to_go_on_and_the_session_lives(
    service: Service, repository: str, method: str, start: int
) -> None:
    location = _patch(service, service.begin(repository), DATA)
    target = location if method == "PATCH" else closing(location, DATA + b"12345", "sha256")
    reply = service.call(method, target, b"12345", {**OCTETS, "Content-Range": f"{start}-{start + 4}"})
    assert (reply.status, reply.code) == (416, "RANGE_INVALID")
    assert reply.headers["range"] == f"0-{len(DATA) - 1}"
    assert reply.location == location
    go_on = {**OCTETS, "Content-Range": f"{len(DATA)}-{len(DATA) + 4}"}
    assert service.call(method, target, b"12345", go_on).status in {201, 202}


@pytest.mark.parametrize(
    ("content_range", "status", "code"),
    [
        ("0-3", 400, "SIZE_INVALID"),
        ("0-5", 400, "SIZE_INVALID"),
        ("4-0", 416, "RANGE_INVALID"),
        ("x", 416, "RANGE_INVALID"),
        ("-5", 416, "RANGE_INVALID"),
        ("bytes 0-4/*", 202, None),
    ],
)
def test_a_content_range_has_to_be_that_of_the_body(
    service: Service, repository: str, content_range: str, status: int, code: str | None
) -> None:
    location = service.begin(repository)
    reply = service.call("PATCH", location, b"12345", {**OCTETS, "Content-Range": content_range})
    assert (reply.status, reply.code) == (status, code)
    kept = "0-4" if status == 202 else "0-0"
    assert service.call("GET", location).headers["range"] == kept


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=x", "?digest=a&digest=b"])
def test_a_session_is_closed_by_one_digest(service: Service, repository: str, query: str) -> None:
    location = _patch(service, service.begin(repository), DATA)
    assert service.call("PUT", location + query).code == "DIGEST_INVALID"
    assert service.call("PUT", closing(location, DATA, "sha256")).status == 201, "the session lives on"


@pytest.mark.parametrize("source", ["named", "any"])
def test_a_blob_is_mounted_from_where_it_is(service: Service, repository: str, source: str) -> None:
    blob = Blob(f"mounted {repository}".encode())
    service.push_blob(repository, blob)
    target = f"/v2/{repository}/into/blobs/uploads/?mount={blob.digest}"
    reply = service.call("POST", target + (f"&from={repository}" if source == "named" else ""))
    assert (reply.status, reply.location) == (201, f"/v2/{repository}/into/blobs/{blob.digest}")
    assert reply.headers["docker-content-digest"] == blob.digest
    assert service.call("GET", reply.location).body == blob.data


@pytest.mark.parametrize("source", ["&from={repository}", "&from={repository}/none", ""])
def test_what_cannot_be_mounted_is_uploaded(service: Service, repository: str, source: str) -> None:
    blob = Blob(f"nowhere {repository}".encode())
    service.push_blob(repository, Blob(b"makes the repository"))
    target = f"/v2/{repository}/into/blobs/uploads/?mount={blob.digest}" + source.format(repository=repository)
    opened = service.call("POST", target)
    assert (opened.status, opened.headers["range"]) == (202, "0-0")
    assert service.call("PUT", closing(opened.location, blob.data, "sha256"), blob.data).status == 201


@pytest.mark.parametrize(
    "query",
    [
        "mount={digest}&from=storage/reserved",
        "mount={digest}&from=a/blobs/b",
        "mount={digest}&from=Library/Capitals",
        "mount={digest}&from=hub.example.org:5000/team/app",
        "mount={digest}&from=" + "a" * 256,
        "mount={digest}&from=",
        "mount={digest}&from=..%2F..%2Fsecret",
        "mount={digest}&from=a%00b",
        "mount={digest}&from=a&from=b",
        "mount={digest}&mount={digest}",
        "mount=sha256:beef&from={repository}",
        "mount=blake3:" + "0" * 64,
        "mount=md5:" + "0" * 32,
        "mount=&from={repository}",
        "mount",
        "from={repository}",
        "mount={digest}&from=none&origin=hub.example.org&ns=%00&no=such%ff&digest-algorithm=sha512",
    ],
)
def test_a_mount_is_a_hint_whatever_is_wrong_with_it(service: Service, repository: str, query: str) -> None:
    """A refused mount is the end of a whole push by containerd."""
    blob = Blob(f"hinted {repository}".encode())
    service.push_blob(repository, Blob(b"makes the repository"))
    target = f"/v2/{repository}/into/blobs/uploads/?{query.format(digest=blob.digest, repository=repository)}"
    opened = service.call("POST", target)
    assert (opened.status, opened.headers["range"]) == (202, "0-0")
    assert service.call("PUT", closing(opened.location, blob.data, "sha256"), blob.data).status == 201


def test_a_blob_that_cannot_be_mounted_is_pushed_in_the_same_request(service: Service, repository: str) -> None:
    blob = Blob(f"in one {repository}".encode())
    target = f"/v2/{repository}/blobs/uploads/?mount={blob.digest}&from=NONE&digest={blob.digest}"
    assert service.call("POST", target, blob.data).status == 201
    assert service.call("GET", f"/v2/{repository}/blobs/{blob.digest}").body == blob.data


def test_sessions_are_bounded_of_each_client_behind_a_proxy(tmp_path: Path) -> None:
    with serving(tmp_path, {"limits": {"uploads_per_address": 2}}) as service:

        def begin(address: str) -> str:
            time.sleep(0.002)  # the oldest is told by milliseconds
            opened = service.call("POST", "/v2/a/b/blobs/uploads/", headers={"X-Forwarded-For": address})
            assert opened.status == 202
            return opened.location

        other = begin("192.0.2.2")
        mine = [begin("192.0.2.1") for _ in range(4)]
        found = [service.call("GET", location).status for location in [other, *mine]]
        assert found == [204, 404, 404, 204, 204]
        closed = service.call("PUT", closing(other, DATA, "sha256"), DATA)
        assert closed.status == 201


def test_a_large_manifest_counts_as_an_upload_of_its_client(tmp_path: Path) -> None:
    config = Blob(b"{}")
    large = image(config, [], annotations={"long": "x" * (2 * CHUNK_SIZE)})
    with serving(tmp_path, {"limits": {"uploads_per_address": 2}}) as service:
        service.push_blob("a/b", config)

        def sent(method: str, target: str, address: str, body: Sequence[bytes] = ()) -> Reply:
            time.sleep(0.002)  # the oldest is told by milliseconds
            headers = {"X-Forwarded-For": address, "Content-Type": large.media_type}
            return service.call(method, target, body, headers=headers)

        begun = [sent("POST", "/v2/a/b/blobs/uploads/", f"192.0.2.{client}").location for client in (1, 2, 1, 2)]
        pushed = sent("PUT", "/v2/a/b/manifests/large", "192.0.2.1", parts(large.data, 100_000))
        assert pushed.status == 201
        assert [service.call("GET", location).status for location in begun] == [404, 204, 204, 204]
        assert service.call("GET", "/v2/a/b/manifests/large").body == large.data


def test_a_stranger_who_fills_his_bound_ends_only_his_own_sessions(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    users.write_text(f"alice:{bcrypt.hashpw(b'word', bcrypt.gensalt(4)).decode()}\n")
    rules = [{"who": ["anonymous", "alice"], "repositories": ["a/b"], "actions": ["pull", "push"]}]
    sections: dict[str, dict[str, object]] = {
        "auth": {"htpasswd": {"file": users}},
        "access": {"rules": rules},
        "limits": {"uploads_per_address": 2},
    }
    alice = {"Authorization": f"Basic {b64encode(b'alice:word').decode()}"}
    with serving(tmp_path, sections) as service:

        def begin(credentials: dict[str, str]) -> str:
            time.sleep(0.002)  # the oldest is told by milliseconds
            headers = {**credentials, "X-Forwarded-For": "192.0.2.1"}
            opened = service.call("POST", "/v2/a/b/blobs/uploads/", headers=headers)
            assert opened.status == 202
            return opened.location

        def living(locations: list[str]) -> list[bool]:
            return [service.call("GET", location, headers=alice).status == 204 for location in locations]

        hers = [begin(alice) for _ in range(2)]
        strange = [begin({}) for _ in range(4)]
        assert (living(hers), living(strange)) == ([True, True], [False, False, True, True])
        more = begin(alice)
        assert (living([*hers, more]), living(strange)) == ([False, True, True], [False, False, True, True])
        closed = service.call("PUT", closing(more, DATA, "sha256"), DATA, alice)
        assert closed.status == 201


def test_a_mount_that_the_store_cannot_do_is_an_upload(tmp_path: Path) -> None:
    blob = Blob(b"shared by a link")
    broken = [Fault("link", times=None), Fault("stat", "a/target/*", times=None)]
    driver = FaultyDriver(LocalDriver(tmp_path / "root", fsync=False), broken)
    with serving(tmp_path, driver=driver) as service:
        service.push_blob("a/source", blob)
        opened = service.call("POST", f"/v2/a/target/blobs/uploads/?mount={blob.digest}&from=a/source")
        assert (opened.status, opened.headers["range"]) == (202, "0-0")
        assert driver.struck


class StalledUpload(Exchange):
    """A body that stops in the middle, whose client stays."""

    def __init__(self, location: str, sent: bytes) -> None:
        super().__init__("PATCH", location, parts(sent, 4099), OCTETS.items(), "127.0.0.1")
        self.stalled = asyncio.Event()

    async def _receive(self) -> Message:
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(0), "more_body": True}
        self.stalled.set()
        return await super()._receive()


@pytest.mark.parametrize("size", [1000, CHUNK_SIZE + 1000], ids=["in the first chunk", "in a later chunk"])
def test_what_came_of_a_body_that_is_cut_at_the_end_of_a_drain_is_kept(
    service: Service, repository: str, size: int
) -> None:
    location = service.begin(repository)

    async def cut() -> None:
        upload = StalledUpload(location, LARGE[:size])
        task = asyncio.create_task(upload.run(service.observation))
        await upload.stalled.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    service.run(cut())
    assert service.call("GET", location).headers["range"] == f"0-{size - 1}"
    rest = LARGE[size:]
    assert service.call("PUT", closing(location, LARGE, "sha256"), rest, OCTETS).status == 201


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (b"digest=sha256:0", {"digest": ["sha256:0"]}),
        (b"digest=sha256%3A0&from=a%2Fb", {"digest": ["sha256:0"], "from": ["a/b"]}),
        (b"&from=a+b&&from=a=b&", {"from": ["a b", "a=b"]}),
        (b"digest&mount=", {"digest": [""], "mount": [""]}),
        (b"fr%6fm=%C3%A9;x", {"from": ["\u00e9;x"]}),
    ],
)
def test_a_query_is_read_as_that_of_a_form(query: bytes, parameters: dict[str, list[str]]) -> None:
    assert dict(query_of(Request({"type": "http", "query_string": query}))) == parameters
