"""How a store is told what the bytes of a part are: by a SHA-256 in the signature, or by a CRC-32C that it compares.

A SHA-256 costs a second of the processor for each GiB, here and once more in the store, beside the one that is the
blob's digest. A CRC-32C finds bytes that were damaged on their way just as well. TLS keeps out an attacker between here
and the store; without TLS an attacker can alter reads as well as writes.

Tests: ``tests/storage/s3/test_multipart.py``.
"""

from __future__ import annotations

import logging
import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from registry.storage.errors import StorageError, StorageUnavailable, StoreMisconfigured, Throttled
from registry.storage.object_store.parts import IS_FAST, crc32c_of
from registry.storage.s3.requests import S3Request
from registry.storage.s3.responses import BytesDamaged
from registry.storage.s3.signature import UNSIGNED

if TYPE_CHECKING:
    from typing import Literal

    from registry.storage.s3.client import S3Bucket

HEADER = "x-amz-checksum-crc32c"
_TRIED = b"whether a store compares what it gets"

log = logging.getLogger(__name__)


class S3Checks:
    """Which of the two a store gets. Any thread."""

    def __init__(self, bucket: S3Bucket, wanted: Literal["auto", "crc32c", "sha256"]) -> None:
        self._bucket = bucket
        self._compares = None if wanted == "auto" and IS_FAST else wanted == "crc32c"
        self._asking = threading.Lock()

    def compares(self) -> bool:
        """Whether the store compares a CRC32C of what it gets; it is asked once. Raises StorageError."""
        if self._compares is None:
            with self._asking:
                if self._compares is None:
                    self._compares = self._ask()
                    log.info("the store gets the %s of parts", "CRC-32C" if self._compares else "SHA-256")
        return self._compares

    def _ask(self) -> bool:
        """It has to take the right one, and to refuse a wrong one."""
        key = f".probe/{uuid.uuid4().hex}"
        try:
            self._bucket.send(key, _write(crc32c_of(_TRIED)))
        except (StoreMisconfigured, BytesDamaged):
            return False
        try:
            self._bucket.send_once(key, _write(crc32c_of(_TRIED[1:])))
        except (Throttled, StorageUnavailable, StoreMisconfigured) as error:
            return isinstance(error, (BytesDamaged, StoreMisconfigured))
        else:
            return False
        finally:
            with suppress(StorageError):
                self._bucket.send(key, S3Request("delete_object", "DELETE"))


def _write(crc32c: str) -> S3Request:
    return S3Request("put_object", "PUT", {HEADER: crc32c}, body=_TRIED, payload=UNSIGNED)
