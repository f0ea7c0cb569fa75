"""What the S3 client sends, seen before it goes out."""

from __future__ import annotations

import io
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from pydantic import SecretStr
from urllib3 import HTTPResponse

from registry.config import S3Settings
from registry.storage.s3_bucket import S3Bucket

SETTINGS = S3Settings(
    bucket="images",
    region="us-east-1",
    endpoint_url="http://127.0.0.1:1",
    access_key_id="key",
    secret_access_key=SecretStr("not-a-secret"),
)
TAGGED = HTTPHeaders.from_pairs([("ETag", '"tag"')])


@pytest.mark.parametrize("body", [b"bytes", bytearray(b"a part")])
def test_a_body_goes_out_with_its_request_and_does_not_wait_for_the_store_to_ask(body: bytes | bytearray) -> None:
    """A far store would let each write wait for one more way there and back."""
    bucket = S3Bucket(SETTINGS, "")
    sent: list[AWSPreparedRequest] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, TAGGED, HTTPResponse(io.BytesIO(), preload_content=False))

    bucket.client.meta.events.register("before-send.s3", answer)  # type: ignore[arg-type]  # it may answer
    bucket.call("key", bucket.client.put_object, Body=body)
    bucket.call("key", bucket.client.upload_part, UploadId="id", PartNumber=1, Body=body)
    assert [request.body for request in sent] == [body, body]
    assert ["Expect" in request.headers for request in sent] == [False, False]
    bucket.close()
