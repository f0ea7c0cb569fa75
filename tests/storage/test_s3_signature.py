"""Our signatures are those of Amazon's own library, for keys and headers of every kind."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import unquote

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from registry.storage.s3_signature import UNSIGNED, Signature, path_of, query_of

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1:9000"
AT = dt.datetime(2026, 11, 24, 23, 59, 58, tzinfo=dt.UTC)
KEYS = ["a", "team/app/index.json", "team/app/.journal/0000000000000001.json", "a b+c%25=&?#[]@:!$'()*,;~", "ä/日本"]
CREDENTIALS = [ReadOnlyCredentials("key", "secret", None), ReadOnlyCredentials("key", "s/e+c=ret", "token//with+signs")]
BODY = hashlib.sha256(b"body").hexdigest()
CASES: list[tuple[str, Mapping[str, str], Mapping[str, str], str]] = [
    ("GET", {}, {}, hashlib.sha256(b"").hexdigest()),
    ("GET", {"range": "bytes=5-9", "if-match": '"tag"'}, {}, hashlib.sha256(b"").hexdigest()),
    ("PUT", {"if-none-match": "*"}, {}, BODY),
    ("PUT", {"x-amz-checksum-crc32": "AAAAAA=="}, {"partNumber": "7", "uploadId": "a+b/c=="}, UNSIGNED),
]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: AT)


def amazons(
    credentials: ReadOnlyCredentials,
    method: str,
    target: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    payload: str,
) -> str:
    """The header that Amazon's library makes."""
    request = AWSRequest(method, f"http://{HOST}{target}", headers=dict(headers), params=dict(query))
    signer = S3SigV4Auth(credentials, "s3", "eu-central-1")
    signer.payload = lambda _: payload  # type: ignore[method-assign, assignment]  # the sum is not what is compared
    signer.add_auth(request)
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("credentials", CREDENTIALS, ids=["key", "session"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("case", CASES, ids=["get", "range", "put", "part"])
def test_a_signature_is_that_of_amazons_library(
    credentials: ReadOnlyCredentials, key: str, case: tuple[str, Mapping[str, str], Mapping[str, str], str]
) -> None:
    method, headers, query, payload = case
    path = "/bucket/" + path_of(key)
    target = f"{path}?{query_of(query)}" if query else path
    signature = Signature("eu-central-1")
    for _ in range(2):  # the second time with the key of the day that is known
        signed = signature.headers(
            credentials, method, target, {**headers, "host": HOST}, payload=payload, at=AT.timestamp()
        )
        assert signed["authorization"] == amazons(credentials, method, path, headers, query, payload)
    assert signed["x-amz-content-sha256"] == payload
    assert signed.get("x-amz-security-token") == credentials.token


@pytest.mark.parametrize("key", KEYS)
def test_a_path_is_the_key_again_when_it_is_unquoted(key: str) -> None:
    assert unquote(path_of(key)) == key
