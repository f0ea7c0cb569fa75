"""Tables of the cache database. Storage is the truth: every row can be rebuilt from it (design, promise 2).

Times are seconds since the epoch, as floats. Digests are whole (``sha256:...``). Text whose order is part of the
protocol has binary collation, so that SQLite and PostgreSQL sort tags and names the same way: by byte.

Tests: ``tests/database/test_schema.py``.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BinaryText = String().with_variant(String(collation="C"), "postgresql")
"""Text that compares and sorts by byte (SQLite does so by itself)."""
Id = BigInteger().with_variant(Integer, "sqlite")
"""A key that the database allots."""

repository = Table(
    "repository",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", BinaryText, nullable=False),
    Column("version", BigInteger, nullable=False, server_default="0"),  # raised by each change that a read could see
    Column("sequence", BigInteger, nullable=False, server_default="0"),  # the last change number allotted (I11)
    Column("folded", BigInteger, nullable=False, server_default="0"),  # the last change that index.json holds
    Column("signature", Text, nullable=False, server_default=""),  # of index.json, as we last wrote or read it
    Column("created_at", Double, nullable=False),
    Column("looked_at", Double, nullable=False, server_default="0"),  # when it was last compared with a far storage
    Column("missing", BigInteger, nullable=False, server_default="0"),  # manifests that index.json names without them
    UniqueConstraint("name"),
)

blob = Table(
    "blob",
    metadata,
    Column("id", Id, primary_key=True),
    Column("algorithm", BinaryText, nullable=False),
    Column("digest", BinaryText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", BinaryText, nullable=False),  # present | missing | quarantined | claimed
    Column("generation", BigInteger, nullable=False, server_default="0"),  # raised by each claim of a deleter
    Column("claim_token", Text),
    Column("claim_deadline", Double),
    Column("leased_until", Double, nullable=False, server_default="0"),
    UniqueConstraint("digest"),
)

blob_location = Table(
    "blob_location",
    metadata,
    Column("id", Id, primary_key=True),
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("store", BinaryText, nullable=False),  # the name of the driver that holds it
    Column("key", BinaryText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("signature", Text, nullable=False, server_default=""),  # ETag, generation, or inode-mtime-size
    Column("state", BinaryText, nullable=False),  # current | deleting | original | copy | lost
    Column("claim_token", Text),
    Column("claim_deadline", Double),
    Column("verified_at", Double),  # NULL: not hashed yet
    Column("migration", Text),  # the one that brought it: then nothing but a migration ever deletes the object (I7)
    UniqueConstraint("store", "key"),
    Index(None, "blob_id"),
    Index(None, "migration", "id"),
)

membership = Table(
    "membership",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("added_at", Double, nullable=False),
    PrimaryKeyConstraint("repository_id", "blob_id"),
    Index(None, "blob_id"),
    sqlite_with_rowid=False,
)

manifest = Table(
    "manifest",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("media_type", Text, nullable=False),
    Column("artifact_type", BinaryText),
    Column("subject", BinaryText),  # a digest; the subject need not exist
    Column("annotations", Text, nullable=False),  # a JSON object
    Column("pushed_at", Double, nullable=False),
    Column("pulled_at", Double),
    Column("complete", SmallInteger, nullable=False, server_default="0"),  # 1: there is a reference for all it names
    PrimaryKeyConstraint("repository_id", "blob_id"),
    Index(None, "blob_id"),
    Index(None, "repository_id", "subject"),
    Index(
        "ix_manifest_incomplete",
        "repository_id",
        "blob_id",
        sqlite_where=text("complete = 0"),
        postgresql_where=text("complete = 0"),
    ),
)

manifest_body = Table(  # apart, so that rows of manifests stay narrow
    "manifest_body",
    metadata,
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

reference = Table(
    "reference",
    metadata,
    Column("repository_id", Id, nullable=False),
    Column("manifest_id", Id, nullable=False),  # blob.id of the manifest
    Column("digest", BinaryText, nullable=False),  # of what it names; with sparse content there is no row for that
    Column("kind", BinaryText, nullable=False),  # manifest | former | blob | optional: see database.manifests
    PrimaryKeyConstraint("repository_id", "manifest_id", "digest"),
    Index(None, "repository_id", "digest"),
    sqlite_with_rowid=False,
)

withheld = Table(
    "withheld",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("digest", BinaryText, nullable=False),  # of what manifests name and the repository does not have (I12)
    Column("kind", BinaryText, nullable=False),  # blob: it lacks the bytes | manifest: it has no such manifest
    Column("released", BigInteger),  # the change that says that it has come; the row goes when that is folded
    PrimaryKeyConstraint("repository_id", "digest", "kind"),
    sqlite_with_rowid=False,
)

tag = Table(
    "tag",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("name", BinaryText, nullable=False),
    Column("blob_id", Id, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("updated_at", Double, nullable=False),
    PrimaryKeyConstraint("repository_id", "name"),
    Index(None, "repository_id", "blob_id"),
    sqlite_with_rowid=False,
)

change = Table(
    "change",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("state", BinaryText, nullable=False),  # pending (its record may not be on storage) | recorded
    Column("created_at", Double, nullable=False),
    Column("record", LargeBinary, nullable=False),  # the exact line of the journal
    PrimaryKeyConstraint("repository_id", "sequence"),
    sqlite_with_rowid=False,
)

upload_session = Table(
    "upload_session",
    metadata,
    Column("id", BinaryText, primary_key=True),
    Column("repository", BinaryText, nullable=False),  # by name: an upload does not create its repository
    Column("offset", BigInteger, nullable=False, server_default="0"),
    Column("algorithm", BinaryText, nullable=False),
    Column("digest", BinaryText),  # of all bytes up to offset; NULL: no process has seen them all
    Column("driver_state", Text, nullable=False, server_default=""),
    Column("tail", LargeBinary),  # bytes that wait for a whole part (object stores)
    Column("started_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("address", Text),  # of the client that began it; NULL: not known
    sqlite_with_rowid=False,
)

signing_key = Table(
    "signing_key",
    metadata,
    Column("id", BinaryText, primary_key=True),
    Column("purpose", BinaryText, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_with_rowid=False,
)

generation = Table(
    "generation",
    metadata,
    Column("name", BinaryText, nullable=False),  # of what processes remember
    Column("mark", Text, nullable=False),  # another one whenever something of it is taken away
    PrimaryKeyConstraint("name"),
    sqlite_with_rowid=False,
)

key_use = Table(
    "key_use",
    metadata,
    Column("id", BinaryText, nullable=False),  # of an API key, which is on storage
    Column("used_at", Double, nullable=False),
    PrimaryKeyConstraint("id"),
    sqlite_with_rowid=False,
)

lease = Table(
    "lease",
    metadata,
    Column("name", BinaryText, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("deadline", Double, nullable=False),
    sqlite_with_rowid=False,
)

milestone = Table(
    "milestone",
    metadata,
    Column("name", BinaryText, primary_key=True),
    Column("reached_at", Double, nullable=False),
    sqlite_with_rowid=False,
)

store = Table(  # no row: no process has looked for migrations on that storage for this database
    "store",
    metadata,
    Column("name", BinaryText, nullable=False),  # of the driver
    Column("migration", Text),  # the newest that storage has
    Column("revision", BigInteger, nullable=False, server_default="0"),  # of its state, as these rows have it
    Column("mode", BinaryText, nullable=False),  # open | read-only
    Column("reason", Text),
    Column("prefixes", Text, nullable=False, server_default=""),  # below which no repository is made; one a line
    Column("looked_at", Double, nullable=False),
    PrimaryKeyConstraint("name"),
    sqlite_with_rowid=False,
)
