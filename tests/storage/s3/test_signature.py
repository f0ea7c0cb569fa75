"""Our signature and Amazon's library's, of the same request."""

from __future__ import annotations

import datetime as dt
from unittest import mock

import boto3
import pytest
from botocore import auth
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials

from registry.storage.s3.signature import UNSIGNED, Signature, path_of, query_of

NOW = dt.datetime(2026, 11, 24, 23, 59, 58, tzinfo=dt.UTC)
KEYS = ReadOnlyCredentials("AKIA", "se/cret+", None)
BORROWED = ReadOnlyCredentials("ASIA", "secret", "to/ken==")
PATHS = [
    "plain",
    "storage/blobs/sha256/0a",
    "a b",
    "a+b",
    "ü/ñ/漢字/😀",
    "100%",
    "%41",
    "a~b-c_d.e",
    "q?x=1&y=2#z",
    "[{(|)}]\\^`<>\"'",
    "a//b",
    "a/./b/../c",
    "!$*,;:=@",
    " leading and trailing ",
    "tab\tand\x7f",
]


def theirs(
    credentials: ReadOnlyCredentials, method: str, url: str, headers: dict[str, str], body: bytes
) -> dict[str, str]:
    """All headers as Amazon's library makes them."""
    request = AWSRequest(method, url, headers=headers, data=body)
    with mock.patch.object(auth, "get_current_datetime", return_value=NOW):
        S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("credentials", [KEYS, BORROWED], ids=["lasting", "borrowed"])
@pytest.mark.parametrize("path", PATHS)
def test_a_request_is_signed_as_amazons_library_signs_it(path: str, credentials: ReadOnlyCredentials) -> None:
    given = {"if-none-match": "*", "range": "bytes=1-2", "x-amz-checksum-crc32c": "AAAAAA=="}
    query = query_of({"uploadId": "a/b+c=d e~", "partNumber": "7"})
    target = f"/bucket/{path_of(path)}?{query}"
    expected = theirs(credentials, "PUT", f"http://127.0.0.1:9000{target}", given, b"body")
    made = Signature("eu-central-1").headers(
        credentials,
        "PUT",
        target,
        {**given, "host": "127.0.0.1:9000"},
        payload=expected["x-amz-content-sha256"],
        at=NOW.timestamp(),
    )
    assert made.pop("host") == "127.0.0.1:9000"
    assert made == expected


def test_a_body_may_be_left_out_of_the_signature() -> None:
    with mock.patch.object(S3SigV4Auth, "_should_sha256_sign_payload", return_value=False):
        expected = theirs(KEYS, "PUT", "https://bucket.s3.amazonaws.com/k", {}, b"body")
    made = Signature("eu-central-1").headers(
        KEYS, "PUT", "/k", {"host": "bucket.s3.amazonaws.com"}, payload=UNSIGNED, at=NOW.timestamp()
    )
    assert made["authorization"] == expected["authorization"]
    assert made["x-amz-content-sha256"] == UNSIGNED == expected["x-amz-content-sha256"]


@pytest.mark.parametrize("credentials", [KEYS, BORROWED], ids=["lasting", "borrowed"])
@pytest.mark.parametrize("path", PATHS)
def test_an_address_is_signed_as_amazons_library_signs_it(path: str, credentials: ReadOnlyCredentials) -> None:
    address = f"https://store.example:8443/bucket/{path_of(path)}"
    request = AWSRequest("GET", address)
    with mock.patch.object(auth, "get_current_datetime", return_value=NOW):
        S3SigV4QueryAuth(credentials, "s3", "eu-central-1", expires=1200).add_auth(request)
    made = Signature("eu-central-1").query(
        credentials, "store.example:8443", f"/bucket/{path_of(path)}", seconds=1200, at=NOW.timestamp()
    )
    assert sorted(made.split("&")) == sorted((request.url or "").partition("?")[2].split("&"))


def test_a_signature_follows_the_day_and_the_credentials() -> None:
    """The key of a day is kept; it must not outlive what it was made of."""
    signature = Signature("eu-central-1")

    def made(credentials: ReadOnlyCredentials, days: int) -> str:
        at = (NOW + dt.timedelta(days=days)).timestamp()
        return signature.headers(credentials, "GET", "/k", {"host": "h"}, payload="0", at=at)["authorization"]

    first = made(KEYS, 0)
    assert made(KEYS, 1) != first
    other = ReadOnlyCredentials(KEYS.access_key, "other", None)
    assert made(other, 1).rpartition("=")[2] != made(KEYS, 1).rpartition("=")[2]
    assert made(KEYS, 0) == first


@pytest.mark.parametrize("path", PATHS)
def test_a_key_stands_in_a_path_as_amazons_library_writes_it(path: str) -> None:
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9000",
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    address = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": path})
    assert address.partition("?")[0] == f"http://127.0.0.1:9000/bucket/{path_of(path)}"
    client.close()
