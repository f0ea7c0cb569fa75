"""The stores that tests start: each says what it was asked for, and comes back with its data."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from tests.support.dialect import GCS
from tests.support.fault_proxy import FaultProxy
from tests.support.gcs_server import GcsServer
from tests.support.postgresql import Cluster
from tests.support.s3_server import S3Server

pytestmark = pytest.mark.stores


def call(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """One request; the status and the document in the answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, json.loads(data) if data.startswith(b"{") else data


@pytest.mark.tools("versitygw")
def test_an_s3_store_counts_its_calls_and_keeps_its_data(tmp_path: Path) -> None:
    with S3Server(tmp_path) as store:
        bucket = store.new_bucket()
        assert bucket != store.new_bucket()
        client = store.client()
        store.reset_calls()
        client.put_object(Bucket=bucket, Key="a b/é", Body=b"hello", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket=bucket, Key="a b/é", Body=b"other", IfNoneMatch="*")
        assert [(call.method, call.kind, call.status) for call in store.calls()] == [
            ("PUT", "PutObject", 200),
            ("PUT", "PutObject", 412),
        ]
        assert store.calls()[0].target == f"/{bucket}/a%20b/%C3%A9"
        store.kill()
        store.start()
        assert client.get_object(Bucket=bucket, Key="a b/é")["Body"].read() == b"hello"
        assert store.calls()[-1].kind == "GetObject"
    assert not store.running


@pytest.mark.tools("fake-gcs-server")
def test_a_gcs_store_counts_its_calls_and_keeps_its_data(tmp_path: Path) -> None:
    with GcsServer(tmp_path) as store:
        bucket = store.new_bucket()
        store.reset_calls()
        upload = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=a%2Fb"
        assert call(store.port, "POST", upload, b"hello")[0] == 200
        assert call(store.port, "POST", f"{upload}&ifGenerationMatch=0", b"other")[0] == 412
        assert [(call.kind, call.status) for call in store.calls()] == [("InsertObject", 200), ("InsertObject", 412)]
        store.restart()
        assert call(store.port, "GET", f"/storage/v1/b/{bucket}/o/a%2Fb?alt=media")[1] == b"hello"
        assert store.calls()[-1].kind == "GetObject"


@pytest.mark.tools("fake-gcs-server")
def test_a_gcs_store_behind_the_fault_proxy(tmp_path: Path) -> None:
    with GcsServer(tmp_path) as store, FaultProxy(store.port, dialect=GCS) as proxy:
        bucket = store.new_bucket()
        store.announce(proxy.url)
        upload = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=a"
        _, made = call(proxy.port, "POST", upload, b"hello")
        assert made["mediaLink"].startswith(f"{proxy.url}/download/")
        proxy.fail("GetObject", status=503)
        status, said = call(proxy.port, "GET", f"/storage/v1/b/{bucket}/o/a?alt=media")
        assert (status, said["error"]["code"]) == (503, 503)
        assert call(proxy.port, "GET", f"/storage/v1/b/{bucket}/o/a?alt=media") == (200, b"hello")
        connection = http.client.HTTPConnection(proxy.address, timeout=60)
        for size in (300_000, 0, 7):  # one connection, bodies of unknown length
            connection.request("POST", upload, (b"x" * size, b"y" * 5), encode_chunked=True)
            assert int(json.loads(connection.getresponse().read())["size"]) == size + 5
        connection.close()
        assert call(proxy.port, "GET", f"/storage/v1/b/{bucket}/o/a?alt=media") == (200, b"x" * 7 + b"y" * 5)
        proxy.strip = {"ifGenerationMatch"}
        assert call(proxy.port, "POST", f"{upload}&ifGenerationMatch=0", b"other")[0] == 200
        assert proxy.kinds() == ["InsertObject", "GetObject"]


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_a_cluster_in_a_directory_is_used_again() -> None:
    # Not below pytest's own directory, which no other user may enter: the server runs as another user than root.
    directory = Path(tempfile.mkdtemp(prefix="stowage-pg-"))
    try:
        cluster = Cluster(directory, fsync=True, tcp=True)
        url = cluster.create("kept").replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept (id integer)")
        cluster.stop("fast")
        cluster = Cluster(directory, tcp=True)
        url = cluster.create("kept").replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        cluster.remove()
        assert not directory.exists()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
