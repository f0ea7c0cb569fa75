"""Whether parts are sent with a CRC32 or with a SHA-256: the store is asked, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import pytest

from registry.storage.errors import StorageError, StorageUnavailable, StoreRefused
from registry.storage.s3_answers import BytesDamaged
from registry.storage.s3_checks import HEADER, S3Checks, crc32_of

if TYPE_CHECKING:
    from registry.storage.s3_bucket import S3Bucket
    from registry.storage.s3_requests import ObjectRequest

REFUSED = StoreRefused("key", "NotImplemented")


class Store:
    """Answers to a write with the right CRC32 and to one with a wrong one; None: it is taken."""

    def __init__(self, right: StorageError | None, wrong: StorageError | None) -> None:
        self._right, self._wrong = right, wrong
        self.client = self
        self.asked = 0
        self.deleted: list[str] = []

    def send(self, key: str, request: ObjectRequest) -> None:
        assert key.startswith(".probe/")
        self.asked += 1
        body = request.body or b""
        answer = self._right if request.headers[HEADER] == crc32_of(body) else self._wrong
        if answer is not None:
            raise answer

    send_once = send

    def call(self, key: str, method: object) -> None:
        assert method == self.delete_object
        self.deleted.append(key)

    def delete_object(self) -> None:
        """What ``call`` is given."""


def checks(store: Store, wanted: Literal["auto", "crc32", "sha256"] = "auto") -> S3Checks:
    return S3Checks(cast("S3Bucket", store), wanted)


@pytest.mark.parametrize(
    ("right", "wrong", "compares"),
    [
        (None, BytesDamaged("key", "BadDigest"), True),
        (None, StoreRefused("key", "InvalidRequest"), True),
        (None, None, False),
        (None, StorageUnavailable("key", "500"), False),
        (REFUSED, REFUSED, False),
        (BytesDamaged("key", "XAmzContentSHA256Mismatch"), None, False),
    ],
    ids=["compares", "refuses-it-otherwise", "ignores-it", "does-not-say", "does-not-know-it", "wants-a-sha256"],
)
def test_a_store_is_found_to_compare_when_it_refuses_the_wrong_one_alone(
    right: StorageError | None, wrong: StorageError | None, compares: bool
) -> None:
    store = Store(right, wrong)
    asking = checks(store)
    assert asking.compares() is compares
    asked = store.asked
    assert asking.compares() is compares
    assert store.asked == asked, "it is asked once"
    assert len(store.deleted) == (right is None), "what was written is deleted"


@pytest.mark.parametrize(("wanted", "compares"), [("crc32", True), ("sha256", False)])
def test_who_knows_does_not_ask(wanted: Literal["crc32", "sha256"], compares: bool) -> None:
    store = Store(None, None)
    assert checks(store, wanted).compares() is compares
    assert store.asked == 0


def test_a_store_that_does_not_answer_at_all_is_asked_again_by_the_next_part() -> None:
    store = Store(StorageUnavailable("key", "503"), None)
    asking = checks(store)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            asking.compares()
    assert store.asked == 2
