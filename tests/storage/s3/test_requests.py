"""What goes to an S3 store for an object, and what its answers mean."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from botocore.credentials import Credentials, RefreshableCredentials
from pydantic import SecretStr

from registry.clocks import boot_seconds
from registry.config.sections import S3Settings
from registry.storage.errors import (
    InvalidRange,
    NotOffered,
    NotSent,
    PathNotFound,
    PreconditionFailed,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreMisconfigured,
    Throttled,
    Unanswered,
)
from registry.storage.s3.client import S3Bucket
from registry.storage.s3.objects import S3Objects
from registry.storage.s3.requests import S3Request
from registry.storage.s3.responses import BytesDamaged
from registry.storage.s3.signature import path_of
from tests.storage.s3.answering_store import Answer, AnsweringStore
from tests.storage.s3.test_signature import PATHS
from tests.support.servers import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Open = Callable[..., S3Bucket]

PUT = S3Request("put_object", "PUT", body=b"bytes")
GET = S3Request("get_object", "GET")
KEYS = {"access_key_id": "key", "secret_access_key": SecretStr("not-a-secret")}


@pytest.fixture
def store() -> Iterator[AnsweringStore]:
    with AnsweringStore() as server:
        yield server


@pytest.fixture
def bucket(store: AnsweringStore) -> Iterator[Open]:
    """Opens buckets of that store, or of another; they are closed afterwards."""
    opened: list[S3Bucket] = []

    def do(root: str = "", **changes: object) -> S3Bucket:
        chosen = {"bucket": "images", "region": "eu-central-1", "endpoint_url": store.url, "attempts": 2, **KEYS}
        opened.append(S3Bucket(S3Settings.model_validate(chosen | changes), root))
        return opened[-1]

    yield do
    for each in opened:
        each.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of this address, signed by itself."""
    pem = tmp_path / "store.pem"
    subject = ["-subj", "/CN=store", "-addext", f"subjectAltName=IP:{HOST}"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(pem), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    pem.write_text(pem.read_text() + (tmp_path / "cert.pem").read_text())
    return pem


@pytest.mark.parametrize("body", [b"bytes", bytearray(b"a part"), bytearray(1 << 20), b""])
def test_a_body_goes_out_with_its_request_and_does_not_wait_for_the_store_to_ask(
    store: AnsweringStore, bucket: Open, body: bytes | bytearray
) -> None:
    """A far store would let each write wait for one more way there and back."""
    bucket().send("key", PUT._replace(body=body))
    (asked,) = store.asked
    assert asked.body == body
    assert asked.headers["Content-Length"] == str(len(body))
    assert asked.headers["Expect"] is None
    assert asked.headers["Transfer-Encoding"] is None
    assert asked.headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("path", PATHS)
def test_a_key_is_sent_as_it_was_signed(store: AnsweringStore, bucket: Open, path: str) -> None:
    bucket("some/root").send(path, PUT)
    assert store.asked[0].target == f"/images/some/root/{path_of(path)}"


def test_conditions_and_ranges_are_sent_and_signed(store: AnsweringStore, bucket: Open) -> None:
    headers = {"if-match": '"tag"', "range": "bytes=1-2"}
    bucket().send("key", GET._replace(headers=headers, query={"partNumber": "1", "uploadId": "a/b+c="}))
    (asked,) = store.asked
    assert asked.target == "/images/key?partNumber=1&uploadId=a%2Fb%2Bc%3D"
    assert asked.headers["If-Match"] == '"tag"'
    assert asked.headers["Range"] == "bytes=1-2"
    signed = "SignedHeaders=host;if-match;range;x-amz-content-sha256;x-amz-date,"
    assert signed in asked.headers["Authorization"]


def test_a_blob_is_not_hashed_again_for_the_signature(store: AnsweringStore, bucket: Open) -> None:
    digest = "0" * 64  # not what its bytes hash to: that was not looked at
    S3Objects(bucket()).put_blob(f"storage/blobs/sha256/{digest}", b"bytes", replace=False)
    S3Objects(bucket()).put_blob(f"storage/blobs/sha512/{digest}", b"bytes", replace=False)
    S3Objects(bucket()).put(f"storage/blobs/sha256/{digest}", b"bytes")
    hashed = hashlib.sha256(b"bytes").hexdigest()
    assert [asked.headers["x-amz-content-sha256"] for asked in store.asked] == [digest, hashed, hashed]


def test_a_bucket_that_is_a_subdomain_is_asked_through_a_proxy(
    store: AnsweringStore, bucket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both as Amazon's library finds them: the address of the bucket, and the proxy in the environment."""
    monkeypatch.setenv("HTTP_PROXY", store.url)
    monkeypatch.setenv("http_proxy", store.url)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    bucket(endpoint_url="http://store.example:8080", addressing_style="virtual").send("a key", PUT)
    bucket(endpoint_url="http://store.example/below", addressing_style="path").send("a key", PUT)
    assert [asked.target for asked in store.asked] == [
        "http://images.store.example:8080/a%20key",
        "http://store.example/below/images/a%20key",
    ]
    assert [asked.headers["Host"] for asked in store.asked] == ["images.store.example:8080", "store.example"]


@pytest.mark.parametrize(
    ("changes", "origin", "path"),
    [
        ({}, "https://images.s3.eu-central-1.amazonaws.com", "/"),
        ({"region": "us-east-1"}, "https://images.s3.amazonaws.com", "/"),
        ({"region": "cn-north-1"}, "https://images.s3.cn-north-1.amazonaws.com.cn", "/"),
        ({"bucket": "my.images"}, "https://s3.eu-central-1.amazonaws.com", "/my.images/"),
        ({"addressing_style": "path"}, "https://s3.eu-central-1.amazonaws.com", "/images/"),
        ({"endpoint_url": "https://store.example:443"}, "https://store.example", "/images/"),
        ({"endpoint_url": "http://[::1]:9000"}, "http://[::1]:9000", "/images/"),
    ],
)
def test_a_bucket_is_where_amazons_library_finds_it(
    bucket: Open, changes: dict[str, object], origin: str, path: str
) -> None:
    place = bucket(**{"endpoint_url": None, **changes})._requests._way().endpoint
    assert (place.origin, place.path, place.service) == (origin, path, "s3")
    assert place.region == changes.get("region", "eu-central-1")


def test_credentials_that_are_borrowed_show_their_token_and_are_renewed(
    store: AnsweringStore, bucket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ACCESS_KEY_ID": "lent", "SECRET_ACCESS_KEY": "s", "SESSION_TOKEN": "token"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    lent = bucket(access_key_id=None, secret_access_key=None)
    lent.send("key", PUT)
    renewed = iter("ABC")

    def renew() -> dict[str, str]:
        name = next(renewed)
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))  # at once to be renewed again
        return {"access_key": name, "secret_key": "s", "token": f"token {name}", "expiry_time": expiry}

    credentials: Credentials = RefreshableCredentials.create_from_metadata(renew(), renew, "test")
    lent._requests._credentials = credentials
    lent.send("key", PUT)
    lent.send("key", PUT)
    assert [asked.headers["x-amz-security-token"] for asked in store.asked] == ["token", "token B", "token C"]
    assert "Credential=C/" in store.asked[-1].headers["Authorization"]


def test_without_credentials_nothing_is_asked(store: AnsweringStore, bucket: Open, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        with pytest.raises(StoreMisconfigured, match="Unable to locate credentials"):
            bucket(access_key_id=None, secret_access_key=None).send("key", PUT)
    assert not store.asked


ERRORS: list[tuple[int, str, type[StorageError], int]] = [
    (404, "NoSuchKey", PathNotFound, 1),
    (404, "NoSuchUpload", PathNotFound, 1),
    (404, "NoSuchBucket", StoreMisconfigured, 1),
    (412, "PreconditionFailed", PreconditionFailed, 1),
    (409, "ConditionalRequestConflict", PreconditionFailed, 1),
    (416, "InvalidRange", InvalidRange, 1),
    (403, "SignatureDoesNotMatch", StoreMisconfigured, 1),
    (403, "ExpiredToken", StoreMisconfigured, 1),
    (301, "PermanentRedirect", StoreMisconfigured, 1),
    (400, "SomethingNew", StoreMisconfigured, 1),
    (501, "NotImplemented", NotOffered, 1),
    (507, "InsufficientStorage", StorageFull, 1),
    (503, "SlowDown", Throttled, 2),
    (500, "InternalError", StorageUnavailable, 2),
    (502, "", StorageUnavailable, 2),
    (409, "OperationAborted", StorageUnavailable, 2),
    (409, "ExistingObjectIsDirectory", StorageUnavailable, 2),
    (400, "RequestTimeout", StorageUnavailable, 2),
    (400, "BadDigest", BytesDamaged, 2),
    (400, "XAmzContentSHA256Mismatch", BytesDamaged, 2),
]


@pytest.mark.parametrize(("status", "code", "expected", "times"), ERRORS)
def test_an_error_is_raised_as_ours_and_repeated_where_that_may_help(
    store: AnsweringStore, bucket: Open, status: int, code: str, expected: type[StorageError], times: int
) -> None:
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>&lt;Code>no</Message></Error>".encode()
    store.answers.extend([Answer(status, body)] * 2)
    with pytest.raises(expected) as raised:
        bucket().send("key", GET._replace(streams=True))
    assert type(raised.value) is expected
    assert raised.value.key == "key"
    assert len(store.asked) == times


@pytest.mark.parametrize(("status", "expected"), [(404, PathNotFound), (403, StoreMisconfigured), (503, Throttled)])
def test_an_error_without_a_body_is_known_by_its_status(
    store: AnsweringStore, bucket: Open, status: int, expected: type[StorageError]
) -> None:
    store.answers.extend([Answer(status)] * 2)
    with pytest.raises(expected):
        S3Objects(bucket()).stat("key")


def _deletion(**failed: str) -> Answer:
    """Of many objects, of which some were not deleted, each for its reason."""
    errors = "".join(f"<Error><Key>{key}</Key><Code>{code}</Code></Error>" for key, code in failed.items())
    return Answer(200, f"<?xml version='1.0'?>\n<DeleteResult>{errors}</DeleteResult>".encode())


def test_objects_that_were_not_deleted_with_the_others_are_asked_for_again(store: AnsweringStore, bucket: Open) -> None:
    store.answers.extend([_deletion(one="NoSuchKey", two="SlowDown"), _deletion()])
    S3Objects(bucket()).delete(["one", "two", "three"])
    assert [asked.body.count(b"<Key>") for asked in store.asked] == [3, 3]


@pytest.mark.parametrize(
    ("code", "expected", "times"),
    [("InternalError", StorageUnavailable, 2), ("SlowDown", Throttled, 2), ("AccessDenied", StoreMisconfigured, 1)],
)
def test_an_object_that_cannot_be_deleted_with_others_is_named(
    store: AnsweringStore, bucket: Open, code: str, expected: type[StorageError], times: int
) -> None:
    store.answers.extend([_deletion(two=code)] * 2)
    with pytest.raises(expected) as raised:
        S3Objects(bucket()).delete(["one", "two"])
    assert raised.value.key == "two"
    assert len(store.asked) == times


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, StorageUnavailable), (503, Throttled), (504, Unanswered), (403, StoreMisconfigured), (404, PathNotFound)],
)
def test_a_delete_that_is_to_be_sent_once_is(
    store: AnsweringStore, bucket: Open, status: int, expected: type[StorageError]
) -> None:
    store.answers.extend([Answer(status)] * 2)
    with pytest.raises(expected):
        S3Objects(bucket()).delete_once("key", '"tag"', boot_seconds() + 30)
    assert [asked.method for asked in store.asked] == ["DELETE"]


def test_a_delete_is_not_sent_late_and_waits_for_its_answer_no_longer_than_it_may(bucket: Open) -> None:
    with pytest.raises(NotSent):
        S3Objects(bucket(endpoint_url=f"http://{HOST}:{free_port()}")).delete_once("key", "", boot_seconds() + 30)
    with socket.create_server((HOST, 0)) as silent:
        objects = S3Objects(bucket(endpoint_url=f"http://{HOST}:{silent.getsockname()[1]}"))
        silent.settimeout(0.05)
        with pytest.raises(NotSent):
            objects.delete_once("key", "", boot_seconds() - 0.1)
        with pytest.raises(TimeoutError):
            silent.accept()
        began = time.monotonic()
        with pytest.raises(Unanswered):
            objects.delete_once("key", "", boot_seconds() + 0.2)
        assert time.monotonic() - began < 25  # and not the usual 30 seconds
        silent.accept()[0].close()


def test_a_connection_is_used_again_and_made_anew_when_the_store_has_closed_it(
    store: AnsweringStore, bucket: Open
) -> None:
    store.answers.extend([Answer(), Answer(closes=True), Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")])
    opened = bucket()
    for _ in range(2):
        opened.send_once("key", PUT)
    with pytest.raises(PathNotFound):
        opened.send("key", GET._replace(streams=True))
    opened.send_once("key", PUT)
    assert [asked.connection for asked in store.asked] == [0, 0, 1, 1]


def test_a_read_to_the_end_leaves_its_connection_for_others(store: AnsweringStore, bucket: Open) -> None:
    there = {"ETag": '"tag"', "Last-Modified": "Tue, 24 Nov 2026 23:59:58 GMT"}
    store.answers.extend([Answer(200, b"0123456789", there)] * 3)
    objects = S3Objects(bucket())
    assert objects.read("key", max_bytes=100)[0] == b"0123456789"
    with objects.open("key") as reader:
        assert reader.read(4) == b"0123"
    assert objects.read("key", max_bytes=100)[0] == b"0123456789"
    assert [asked.connection for asked in store.asked] == [0, 0, 1]


def test_a_store_that_says_nothing_is_given_up(bucket: Open) -> None:
    with socket.create_server((HOST, 0)) as silent:
        url = f"http://{HOST}:{silent.getsockname()[1]}"
        with pytest.raises(StorageUnavailable, match="Read timed out"):
            bucket(endpoint_url=url, read_timeout=0.1, attempts=1).send("key", PUT)
    with pytest.raises(StorageUnavailable, match="NewConnectionError"):
        bucket(endpoint_url=f"http://{HOST}:{free_port()}", attempts=1).send("key", PUT)


def test_a_part_may_take_longer_than_connecting(bucket: Open) -> None:
    """The timeout of a connection is for each piece that is handed to it, not for the whole part."""
    body, taken = bytearray(2 << 20), 0.0
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)  # little comes to lie in between
        slow.bind((HOST, 0))
        slow.listen()

        def take() -> None:
            connection, _ = slow.accept()
            with connection, connection.makefile("rb") as received:
                while received.readline() != b"\r\n":
                    pass
                for _ in range(8):
                    time.sleep(0.1)
                    received.read(len(body) // 8)
                connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "tag"\r\nContent-Length: 0\r\n\r\n')

        taking = threading.Thread(target=take)
        taking.start()
        settings = {"endpoint_url": f"http://{HOST}:{slow.getsockname()[1]}", "connect_timeout": 0.5, "attempts": 1}
        began = time.monotonic()
        bucket(**settings).send("key", PUT._replace(body=body))
        taken = time.monotonic() - began
        taking.join()
    assert taken > 0.5


def test_a_store_over_tls_has_to_be_the_right_one(
    certificate: Path, bucket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    body = bytearray(b"0123456789abcdef" * 50_000)
    there = {"ETag": '"tag"', "Last-Modified": "Tue, 24 Nov 2026 23:59:58 GMT"}
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with AnsweringStore(context) as store:
        with pytest.raises(StorageUnavailable, match="certificate verify failed"):
            bucket(endpoint_url=store.url, attempts=1).send("key", PUT)
        assert not store.asked
        for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(name, str(certificate))
                trusting = bucket(endpoint_url=store.url, attempts=1)
                trusting.send("key", PUT._replace(body=body))
                assert store.asked[-1].body == body
        store.answers.append(Answer(200, bytes(body), there))
        buffer = memoryview(bytearray(len(body) + 1))
        with S3Objects(trusting).open("key") as reader:
            assert reader.read_into(buffer) == len(body)
        assert buffer[:-1] == body
