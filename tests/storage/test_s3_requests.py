"""What goes out to an S3 store, seen by a server that takes everything, or hangs up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from pydantic import SecretStr

from registry.config import S3Settings
from registry.storage.errors import StorageUnavailable, StoreRefused
from registry.storage.part_slices import SLICE
from registry.storage.s3_bucket import S3Bucket
from registry.storage.s3_requests import ObjectRequest


class Seen(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Store(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.seen: list[Seen] = []
        self.connections = 0
        self.hangs_up = False
        """Close each connection behind its answer, without saying so."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Store

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, self.rfile.read(length)))
        self.send_response(200)
        self.send_header("ETag", '"tag"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = self.server.hangs_up

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[_Store]:
    with _Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings(store: _Store, **more: object) -> S3Settings:
    own = S3Settings(
        bucket="images",
        region="us-east-1",
        endpoint_url=f"http://127.0.0.1:{store.server_address[1]}",
        access_key_id="key",
        secret_access_key=SecretStr("not-a-secret"),
    )
    return own.model_copy(update=more)


@pytest.fixture
def bucket(store: _Store) -> Iterator[S3Bucket]:
    opened = S3Bucket(settings(store), "some/root")
    yield opened
    opened.close()


def put(body: bytes | bytearray) -> ObjectRequest:
    return ObjectRequest("put_object", "PUT", body=body)


@pytest.mark.parametrize("body", [b"bytes", bytearray(b"a part"), bytes(SLICE) + b"more", b""])
def test_a_body_goes_out_with_its_request_and_does_not_wait_for_the_store_to_ask(
    bucket: S3Bucket, store: _Store, body: bytes | bytearray
) -> None:
    """A far store would let each write wait for one more way there and back."""
    bucket.send("key", put(body))
    [seen] = store.seen
    assert (seen.path, seen.body) == ("/images/some/root/key", bytes(body))
    assert "expect" not in seen.headers
    assert "transfer-encoding" not in seen.headers


def test_a_connection_is_used_again(bucket: S3Bucket, store: _Store) -> None:
    for number in range(5):
        bucket.send(f"key{number}", put(b"bytes"))
    assert store.connections == 1


def test_a_connection_that_the_store_has_closed_meanwhile_costs_nobody_his_request(store: _Store) -> None:
    patient = S3Bucket(settings(store, attempts=2), "")
    store.hangs_up = True
    for number in range(5):
        patient.send(f"key{number}", put(b"bytes"))
    patient.close()
    assert [seen.path for seen in store.seen] == [f"/images/key{number}" for number in range(5)]


def test_a_session_token_is_sent_and_signed(store: _Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "found")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    bucket = S3Bucket(settings(store, access_key_id=None, secret_access_key=None), "")
    bucket.send("key", put(b"bytes"))
    bucket.close()
    [seen] = store.seen
    assert seen.headers["x-amz-security-token"] == "token"
    assert "Credential=found/" in seen.headers["authorization"]
    assert "x-amz-security-token" in seen.headers["authorization"]


def test_where_there_are_no_credentials_that_is_what_is_said(store: _Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    bucket = S3Bucket(settings(store, access_key_id=None, secret_access_key=None), "")
    with pytest.raises(StoreRefused, match="credentials"):
        bucket.send("key", put(b"bytes"))
    bucket.close()


def test_a_store_that_is_not_there_is_unavailable_and_not_asked_for_ever(store: _Store) -> None:
    nobody = settings(store, endpoint_url="http://127.0.0.1:1", attempts=2)
    bucket = S3Bucket(nobody, "")
    with pytest.raises(StorageUnavailable):
        bucket.send("key", put(b"bytes"))
    bucket.close()
