"""The fault proxy does to boto3 what it says, and nothing else to what it passes on."""

from __future__ import annotations

import hashlib
import io
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.clients.wire import until
from tests.support.fault_proxy import FaultProxy
from tests.support.s3_server import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

MIB = 1 << 20
ONCE = {"total_max_attempts": 1, "mode": "standard"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(store: S3Server) -> str:
    return store.new_bucket()


@pytest.fixture
def proxy(store: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(store.port, secret=store.secret) as running:
        yield running


@pytest.fixture
def client(store: S3Server, proxy: FaultProxy) -> Iterator[S3Client]:
    """A client of the proxy that never tries again and waits two seconds."""
    made = store.client(proxy.url, retries=ONCE, read_timeout=2)
    yield made
    made.close()


@pytest.fixture
def direct(store: S3Server) -> Iterator[S3Client]:
    """A client of the store itself."""
    made = store.client()
    yield made
    made.close()


def code_of(error: ClientError) -> tuple[int, str]:
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"].get("Code", "")


def keys(client: S3Client, bucket: str, prefix: str) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def every_operation(client: S3Client, bucket: str) -> None:
    """Do one of each that a registry asks a store for."""
    client.put_object(Bucket=bucket, Key="all/a b", Body=b"hello")
    client.head_object(Bucket=bucket, Key="all/a b")
    client.get_object(Bucket=bucket, Key="all/a b")["Body"].read()
    client.copy_object(Bucket=bucket, Key="all/copy", CopySource={"Bucket": bucket, "Key": "all/a b"})
    client.list_objects_v2(Bucket=bucket, Prefix="all/")
    one = client.create_multipart_upload(Bucket=bucket, Key="all/parts")["UploadId"]
    part = client.upload_part(Bucket=bucket, Key="all/parts", UploadId=one, PartNumber=1, Body=b"x" * 5 * MIB)
    source: CopySourceTypeDef = {"Bucket": bucket, "Key": "all/a b"}
    copied = client.upload_part_copy(Bucket=bucket, Key="all/parts", UploadId=one, PartNumber=2, CopySource=source)
    client.list_parts(Bucket=bucket, Key="all/parts", UploadId=one)
    client.list_multipart_uploads(Bucket=bucket)
    etags = [part["ETag"], copied["CopyPartResult"]["ETag"]]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
    client.complete_multipart_upload(
        Bucket=bucket,
        Key="all/parts",
        UploadId=one,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
    )
    two = client.create_multipart_upload(Bucket=bucket, Key="all/none")["UploadId"]
    client.abort_multipart_upload(Bucket=bucket, Key="all/none", UploadId=two)
    client.delete_object(Bucket=bucket, Key="all/copy")
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "all/a b"}, {"Key": "all/parts"}]})


def test_every_operation_passes_and_is_counted_as_the_store_counts_it(
    store: S3Server, proxy: FaultProxy, client: S3Client, bucket: str
) -> None:
    store.reset_calls()
    every_operation(client, bucket)
    # Statuses are left out: the store writes 200 into its log where it answers 204.
    seen, answered = (
        [(call.method, call.kind, call.target) for call in calls] for calls in (proxy.calls(), store.calls())
    )
    assert seen == answered
    assert proxy.counts()["POST", "CreateMultipartUpload"] == 2
    assert len(proxy.kinds()) == 14


def test_every_operation_fails_once_and_boto3_tries_again(
    store: S3Server, proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    client = store.client(proxy.url, retries={"total_max_attempts": 3, "mode": "standard"})
    every_operation(client, bucket)
    kinds = proxy.kinds()
    rules = {kind: proxy.fail(kind, status=503) for kind in kinds}
    store.reset_calls()
    proxy.reset_calls()
    every_operation(client, bucket)
    assert {kind: rule.hits for kind, rule in rules.items()} == dict.fromkeys(kinds, 1)
    assert len(proxy.calls()) == len(store.calls()) + len(kinds)


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (429, "TooManyRequests")])
def test_a_failure_has_the_status_and_code_of_the_store(
    proxy: FaultProxy, client: S3Client, direct: S3Client, bucket: str, status: int, code: str
) -> None:
    rule = proxy.fail("PutObject", status=status)
    with pytest.raises(ClientError) as failed:
        client.put_object(Bucket=bucket, Key=f"failed/{status}", Body=b"x" * MIB)
    assert code_of(failed.value) == (status, code)
    assert keys(direct, bucket, f"failed/{status}") == []
    client.put_object(Bucket=bucket, Key=f"failed/{status}", Body=b"x")
    assert rule.hits == 1
    assert [call.status for call in proxy.calls()] == [status, 200]


def test_only_what_is_meant_fails(proxy: FaultProxy, client: S3Client, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="meant/a b", Body=b"x")
    proxy.fail(method="GET", path_contains="meant/a b", status=500, skip=1)
    proxy.fail(query_contains="prefix=meant/", status=503)
    client.get_object(Bucket=bucket, Key="meant/a b")["Body"].read()
    client.head_object(Bucket=bucket, Key="meant/a b")
    with pytest.raises(ClientError, match="500"):
        client.get_object(Bucket=bucket, Key="meant/a b")
    client.get_object(Bucket=bucket, Key="meant/a b")["Body"].read()
    with pytest.raises(ClientError, match="SlowDown"):
        client.list_objects_v2(Bucket=bucket, Prefix="meant/")
    proxy.fail(times=None)
    for _ in range(3):
        with pytest.raises(ClientError):
            client.head_object(Bucket=bucket, Key="meant/a b")
    proxy.clear()
    client.head_object(Bucket=bucket, Key="meant/a b")


def test_the_store_did_it_and_the_answer_is_lost(
    proxy: FaultProxy, client: S3Client, direct: S3Client, bucket: str
) -> None:
    proxy.fail("PutObject", after=True)
    with pytest.raises(ConnectionClosedError):
        client.put_object(Bucket=bucket, Key="lost", Body=b"x" * MIB)
    assert keys(direct, bucket, "lost") == ["lost"]
    assert [call.status for call in proxy.calls()] == [0]


def test_a_reset_before_the_store_is_asked(proxy: FaultProxy, client: S3Client, direct: S3Client, bucket: str) -> None:
    proxy.fail("PutObject", status=None)
    with pytest.raises(HTTPClientError):
        client.put_object(Bucket=bucket, Key="refused", Body=b"x")
    assert keys(direct, bucket, "refused") == []


@pytest.mark.parametrize("after", [False, True])
def test_a_client_gives_up_on_what_hangs(
    proxy: FaultProxy, client: S3Client, direct: S3Client, bucket: str, after: bool
) -> None:
    key = f"hung/{after}"
    proxy.hang("PutObject", after=after)
    with pytest.raises(ReadTimeoutError):
        client.put_object(Bucket=bucket, Key=key, Body=b"x" * MIB)
    assert keys(direct, bucket, key) == ([key] if after else [])
    client.put_object(Bucket=bucket, Key=key, Body=b"x")


def test_what_hangs_is_dropped(proxy: FaultProxy, store: S3Server, bucket: str) -> None:
    client = store.client(proxy.url, retries=ONCE)
    proxy.hang("HeadBucket")

    def drop() -> None:
        until(lambda: len(proxy.calls()) == 1, "a request that hangs")
        proxy.drop()

    with ThreadPoolExecutor(1) as pool:
        dropping = pool.submit(drop)
        with pytest.raises(ConnectionClosedError):
            client.head_bucket(Bucket=bucket)
        dropping.result()
    client.head_bucket(Bucket=bucket)


def test_a_response_is_cut(proxy: FaultProxy, client: S3Client, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="cut", Body=b"x" * 3 * MIB)
    proxy.cut("GetObject", response=2 * MIB)
    body = client.get_object(Bucket=bucket, Key="cut")["Body"]
    assert len(body.read(MIB)) == MIB
    with pytest.raises(ResponseStreamingError):
        body.read()
    assert len(client.get_object(Bucket=bucket, Key="cut")["Body"].read()) == 3 * MIB


def test_a_request_is_cut(proxy: FaultProxy, client: S3Client, direct: S3Client, bucket: str) -> None:
    proxy.cut("PutObject", request=MIB)
    with pytest.raises(HTTPClientError):
        client.put_object(Bucket=bucket, Key="cut-request", Body=b"x" * 3 * MIB)
    assert keys(direct, bucket, "cut-request") == []
    client.put_object(Bucket=bucket, Key="cut-request", Body=b"x" * 3 * MIB)


def test_each_call_is_delayed(proxy: FaultProxy, client: S3Client, bucket: str) -> None:
    proxy.delay = 0.3
    began = time.monotonic()
    client.head_bucket(Bucket=bucket)
    client.head_bucket(Bucket=bucket)
    assert 0.6 <= time.monotonic() - began < 40


def test_a_store_that_ignores_conditions(proxy: FaultProxy, client: S3Client, bucket: str) -> None:
    """boto3 signs the conditions, so that the proxy has to sign again."""
    client.put_object(Bucket=bucket, Key="conditions/a+b é", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="conditions/a+b é", Body=b"second", IfNoneMatch="*")
    proxy.strip = {"If-Match", "If-None-Match"}
    client.put_object(Bucket=bucket, Key="conditions/a+b é", Body=b"second", IfNoneMatch="*")
    client.put_object(Bucket=bucket, Key="conditions/a+b é", Body=b"third", IfMatch='"no such etag"')
    assert client.get_object(Bucket=bucket, Key="conditions/a+b é")["Body"].read() == b"third"


def test_a_store_that_stops_is_gone_for_the_client_and_comes_back(
    store: S3Server, proxy: FaultProxy, client: S3Client, bucket: str
) -> None:
    client.put_object(Bucket=bucket, Key="kept", Body=b"x")
    store.kill()
    try:
        with pytest.raises(BotoCoreError):
            client.head_object(Bucket=bucket, Key="kept")
    finally:
        store.start()
    client.head_object(Bucket=bucket, Key="kept")


def test_a_proxy_that_stops_and_starts_again_serves(proxy: FaultProxy, client: S3Client, bucket: str) -> None:
    client.head_bucket(Bucket=bucket)
    proxy.stop()
    with pytest.raises(BotoCoreError):
        client.head_bucket(Bucket=bucket)
    proxy.start()
    client.head_bucket(Bucket=bucket)


def test_many_clients_at_once_each_get_their_own_answers(proxy: FaultProxy, store: S3Server, bucket: str) -> None:
    client = store.client(proxy.url, max_pool_connections=8, retries={"total_max_attempts": 5, "mode": "standard"})
    rule = proxy.fail("PutObject", status=None, times=5)

    def life(number: int) -> bool:
        data = str(number).encode() * 50_000
        client.put_object(Bucket=bucket, Key=f"many/{number}", Body=data)
        return client.get_object(Bucket=bucket, Key=f"many/{number}")["Body"].read() == data

    with ThreadPoolExecutor(max_workers=8) as pool:
        assert all(pool.map(life, range(40)))
    assert rule.hits == 5
    assert proxy.counts()["GET", "GetObject"] == 40
    assert proxy.counts()["PUT", "PutObject"] == 45


def test_large_bodies_stream_both_ways(proxy: FaultProxy, store: S3Server, bucket: str) -> None:
    size = 200 * MIB
    block = bytes(range(256)) * 4096
    client = store.client(proxy.url, retries=ONCE, read_timeout=60)
    client.put_object(Bucket=bucket, Key="large", Body=io.BytesIO(block * (size // MIB)))
    received = hashlib.sha256()
    body = client.get_object(Bucket=bucket, Key="large")["Body"]
    while piece := body.read(MIB):
        received.update(piece)
    expected = hashlib.sha256()
    for _ in range(size // MIB):
        expected.update(block)
    assert received.digest() == expected.digest()
    client.delete_object(Bucket=bucket, Key="large")
