"""Manifest bodies: bytes of manifests, kept if storage is expensive to read, so that all replicas share a read.

Tests: ``tests/database/test_schema.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

_FIND = Statement("SELECT c.body FROM manifest_body c JOIN blob b ON b.id = c.blob_id WHERE b.digest = :digest")
_REPLACE = "ON CONFLICT (blob_id) DO UPDATE SET body = excluded.body"
_PUT = Statement(f"INSERT INTO manifest_body (blob_id, body) VALUES (:blob, :body) {_REPLACE}")  # noqa: S608
_KEEP = Statement(
    "INSERT INTO manifest_body (blob_id, body) SELECT b.id, :body FROM blob b WHERE b.digest = :digest"  # noqa: S608
    f" AND EXISTS (SELECT 1 FROM manifest m WHERE m.blob_id = b.id) {_REPLACE}"
)
_BRING = Statement(
    "INSERT INTO manifest_body (blob_id, body) SELECT b.id, :body FROM blob b WHERE b.digest = :digest"  # noqa: S608
    f" {_REPLACE}"
)
_REMOVE_UNUSED = Statement(
    "DELETE FROM manifest_body WHERE blob_id = :blob"
    " AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.blob_id = manifest_body.blob_id)"
)
_REMOVE_OF_REPOSITORY = Statement(
    "DELETE FROM manifest_body WHERE blob_id IN (SELECT blob_id FROM manifest WHERE repository_id = :repository)"
    " AND NOT EXISTS (SELECT 1 FROM manifest m"
    " WHERE m.blob_id = manifest_body.blob_id AND m.repository_id <> :repository)"
)


def find(connection: Transaction, digest: str) -> Later[bytes | None]:
    """The bytes kept under this digest, not compared with it; None if there are none."""
    return connection.execute(_FIND, {"digest": digest}).first_as(bytes)


def put(connection: Transaction, blob_id: int, body: bytes) -> None:
    """Keep the bytes of a manifest that this transaction puts."""
    connection.execute(_PUT, {"blob": blob_id, "body": body})


def keep(connection: Transaction, digest: str, body: bytes) -> None:
    """Keep bytes that were read from storage, while any repository has the manifest."""
    connection.execute(_KEEP, {"digest": digest, "body": body})


def bring(connection: Transaction, digest: str, body: bytes) -> None:
    """Keep the bytes of a manifest that a repository is about to have; the caller has hashed them."""
    connection.execute(_BRING, {"digest": digest, "body": body})


def remove_unused(connection: Transaction, blob_id: int) -> None:
    """Forget the bytes when no repository has the manifest any more.

    Where another pushes it at this moment they may be forgotten too early: the next read has them from storage.
    """
    connection.execute(_REMOVE_UNUSED, {"blob": blob_id})


def remove_of_repository(connection: Transaction, repository_id: int) -> None:
    """As ``remove_unused``, for each manifest that only this repository has."""
    connection.execute(_REMOVE_OF_REPOSITORY, {"repository": repository_id})
