"""What is asked of an S3 store for many objects, for copies and for parts, and what its documents mean."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING
from xml.etree.ElementTree import fromstring

import pytest

from registry.storage.errors import PathNotFound, StorageUnavailable, StoreMisconfigured, Throttled
from registry.storage.s3.driver import S3Driver
from tests.storage.drivers import S3
from tests.storage.s3.answering_store import Answer, AnsweringStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.storage.errors import StorageError

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@pytest.fixture
def store() -> Iterator[AnsweringStore]:
    with AnsweringStore() as server:
        yield server


@pytest.fixture
def driver(store: AnsweringStore) -> Iterator[S3Driver]:
    settings = S3.model_copy(update={"endpoint_url": store.url, "attempts": 2, "checksums": "sha256"})
    opened = S3Driver(settings, "root")
    yield opened
    opened.close()


def listing(*keys: str, more: str = "") -> Answer:
    """A page of them; ``more`` is the token of the next."""
    entries = "".join(
        f"<Contents><Key>{key}</Key><Size>3</Size><ETag>&quot;t&quot;</ETag>"
        "<LastModified>2026-11-24T23:59:58.000Z</LastModified></Contents>"
        for key in keys
    )
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return document(
        "ListBucketResult",
        f"<EncodingType>url</EncodingType><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{token}{entries}",
    )


def document(name: str, content: str = "") -> Answer:
    return Answer(200, f"<?xml version='1.0'?>\n<{name} {NAMESPACE}>{content}</{name}>".encode())


def test_a_listing_has_all_pages_and_keys_as_they_were_written(store: AnsweringStore, driver: S3Driver) -> None:
    store.answers.extend(
        [listing("root/a%2Bb+c", "root/dir/", more="a/b+c="), listing("root/%C3%BC", "root/.uploads/u")]
    )
    listed = [(key, stat.size, stat.etag) for key, stat in driver.list("", after="a")]
    assert listed == [("a+b c", 3, '"t"'), ("ü", 3, '"t"')]
    first, second = (asked.target for asked in store.asked)
    assert first == "/bucket?encoding-type=url&list-type=2&max-keys=1000&prefix=root%2F&start-after=root%2Fa"
    assert second == (
        "/bucket?continuation-token=a%2Fb%2Bc%3D&encoding-type=url&list-type=2&max-keys=1000&prefix=root%2F"
    )


@pytest.mark.parametrize(
    "answer",
    [Answer(200), Answer(200, b"<html/>"), document("ListAllMyBucketsResult"), listing("root/a", more="x")],
)
def test_what_is_no_listing_or_breaks_off_is_no_empty_bucket(
    store: AnsweringStore, driver: S3Driver, answer: Answer
) -> None:
    answer.body = answer.body.replace(b"<NextContinuationToken>x</NextContinuationToken>", b"")
    store.answers.extend([answer] * 2)
    with pytest.raises(StorageUnavailable):
        list(driver.list(""))


def test_many_deletions_are_one_document_whose_checksum_is_sent(store: AnsweringStore, driver: S3Driver) -> None:
    store.answers.append(document("DeleteResult"))
    driver.delete(["a&b", "<c>"])
    (asked,) = store.asked
    assert asked.target == "/bucket?delete="
    assert [key.text for key in fromstring(asked.body).iter() if key.tag.endswith("Key")] == ["root/a&b", "root/<c>"]  # noqa: S314 - our own
    checksum = base64.b64encode(zlib.crc32(asked.body).to_bytes(4, "big")).decode()
    assert asked.headers["x-amz-checksum-crc32"] == checksum
    store.answers.extend([Answer(200, b"<html/>")] * 2)
    with pytest.raises(StorageUnavailable):
        driver.delete(["a", "b"])


def test_a_store_that_does_not_say_what_a_multipart_upload_is_called_is_told_so(
    store: AnsweringStore, driver: S3Driver
) -> None:
    store.answers.append(document("InitiateMultipartUploadResult", "<UploadId/>"))
    with pytest.raises(StorageUnavailable, match="UploadId"):
        driver._multiparts.create("key")


@pytest.mark.parametrize(
    ("code", "expected", "times"),
    [
        ("InternalError", StorageUnavailable, 2),
        ("SlowDown", Throttled, 2),
        ("NoSuchKey", PathNotFound, 1),
        ("AccessDenied", StoreMisconfigured, 1),
    ],
)
def test_an_error_that_comes_after_a_good_status_is_one(
    store: AnsweringStore,
    driver: S3Driver,
    code: str,
    expected: type[StorageError],
    times: int,
) -> None:
    """A copy may take minutes: the store sends the status before it knows."""
    store.answers.extend([Answer(200, f"<?xml version='1.0'?>\n  <Error><Code>{code}</Code></Error>".encode())] * 2)
    with pytest.raises(expected):
        driver.copy("a", "b", size=1, if_etag='"t"')
    assert [asked.headers["x-amz-copy-source"] for asked in store.asked] == ["bucket/root/a"] * times
