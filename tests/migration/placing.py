"""Many objects in a bucket of versitygw's at once: the files that its puts would leave, without a request for each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from tests.support.s3_server import S3Server
from tests.support.source_world import Tree

ETAG = "user.etag"
"""Where versitygw keeps the ETag of a file."""


def place(store: S3Server, bucket: str, trees: Iterable[Tree]) -> int:
    """Put trees into a bucket, one after the other; how many objects these are."""
    count = 0
    for tree in trees:
        for key, data in tree.items():
            path = store.data / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.setxattr(path, ETAG, f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'.encode())
            count += 1
    return count
