"""Tables of the cache database. Storage is the truth: every row can be rebuilt from it (design, promise 2).

Times are seconds since the epoch, as floats, unless a clock is named beside them: that of the server on PostgreSQL, and
on SQLite the seconds of a boot of the machine (see ``registry.database.clock``). Digests are whole (``sha256:...``).
Text whose order is part of the protocol has binary collation, so that SQLite and PostgreSQL sort tags and names the
same way: by byte.

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
    Column("signature", Text, nullable=False, server_default=""),  # the etag of index.json, as we last wrote or read it
    Column("created_at", Double, nullable=False),
    Column("looked_at", Double, nullable=False, server_default="0"),  # when it was last compared with a far storage
    Column("missing", BigInteger, nullable=False, server_default="0"),  # manifests that index.json names without them
    Column("uploaded_at", Double, nullable=False, server_default="0"),  # when an upload that took long last ended
    Column("rebuilt", BigInteger, nullable=False, server_default="0"),  # the last round of a rebuild that has read it
    Column("hidden", SmallInteger, nullable=False, server_default="0"),  # as in its row of empty_repository
    UniqueConstraint("name"),
    Index("ix_repository_listed", "name", sqlite_where=text("hidden = 0"), postgresql_where=text("hidden = 0")),
)

blob = Table(
    "blob",
    metadata,
    Column("id", Id, primary_key=True),
    Column("algorithm", BinaryText, nullable=False),
    Column("digest", BinaryText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", BinaryText, nullable=False),  # present | missing | quarantined | claimed | gone
    Column("generation", BigInteger, nullable=False, server_default="0"),  # raised by each claim of a deleter
    Column("claim_token", Text),
    Column("claim_deadline", Double),
    Column("leased_until", Double, nullable=False, server_default="0"),  # for former releases, as lease_until
    Column("lease_clock", Text),
    Column("lease_until", Double),  # by lease_clock
    Column("lease_seconds", Double),  # its whole length
    Column("gone_clock", Text),
    Column("gone_at", Double),  # by gone_clock
    UniqueConstraint("digest"),
    Index("ix_blob_gone", "gone_at", sqlite_where=text("state = 'gone'"), postgresql_where=text("state = 'gone'")),
)

blob_location = Table(
    "blob_location",
    metadata,
    Column("id", Id, primary_key=True),
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("store", BinaryText, nullable=False),  # the name of the driver that holds it
    Column("key", BinaryText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("signature", Text, nullable=False, server_default=""),  # the etag: ETag, generation, or inode-mtime-size
    Column("state", BinaryText, nullable=False),  # current | deleting | original | copy | lost
    Column("claim_token", Text),
    Column("claim_deadline", Double),  # for former releases, late enough for all that may still happen
    Column("claim_timed", Text),  # the token that the following speak of: a former release sets another without them
    Column("claim_clock", Text),
    Column("claim_until", Double),  # by claim_clock
    Column("claim_sent", SmallInteger),  # 1: the delete may have been sent
    Column("verified_at", Double),  # NULL: not hashed yet
    Column("scrubbed_at", Double),  # when a scrub last read the object whole; NULL: not yet
    Column("migration", Text),  # the one that brought it: then nothing but a migration ever deletes the object (I7)
    UniqueConstraint("store", "key"),
    Index(None, "blob_id"),
    Index(None, "migration", "id"),
    Index(
        "ix_blob_location_deleting",
        "store",
        "key",
        sqlite_where=text("state = 'deleting'"),
        postgresql_where=text("state = 'deleting'"),
    ),
    Index(  # no entry for what was never scrubbed, so that a push writes none
        "ix_blob_location_scrubbed",
        "store",
        "scrubbed_at",
        "id",
        sqlite_where=text("scrubbed_at IS NOT NULL"),
        postgresql_where=text("scrubbed_at IS NOT NULL"),
    ),
)

membership = Table(
    "membership",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("added_at", Double, nullable=False),
    Column("found", SmallInteger),  # 1: in its directory, and no client has pushed it or deleted what named it
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
    Column("deletion", BigInteger),  # the batch of its deletion, of which a part has committed
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
    Index(None, "repository_id", "digest", "kind"),  # whole: else SQLite reads all references of a repository instead
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

trash_manifest = Table(  # manifests that were deleted, and can be restored
    "trash_manifest",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("media_type", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),  # the number of the change that deleted it
    Column("batch", BigInteger, nullable=False),  # that of the first change of the same request or run
    Column("removed_at", Double, nullable=False),
    Column("tags", Text, nullable=False),  # those that it lost then: a JSON list
    PrimaryKeyConstraint("repository_id", "blob_id"),
    Index(None, "blob_id"),
    Index(None, "removed_at"),
    Index(None, "repository_id", "sequence"),
    sqlite_with_rowid=False,
)

trash_reference = Table(  # what they named, and their repository had
    "trash_reference",
    metadata,
    Column("repository_id", Id, nullable=False),
    Column("manifest_id", Id, nullable=False),
    Column("digest", BinaryText, nullable=False),
    Column("kind", BinaryText, nullable=False),  # as in reference
    PrimaryKeyConstraint("repository_id", "manifest_id", "digest"),
    Index(None, "digest"),
    sqlite_with_rowid=False,
)

doomed = Table(  # what is out of use: it goes when it has been for long enough
    "doomed",
    metadata,
    Column("repository_id", Id, nullable=False),  # whose manifests do not name it; 0: no repository has it
    Column("blob_id", Id, ForeignKey("blob.id", ondelete="CASCADE"), nullable=False),
    Column("since", Double, nullable=False),
    PrimaryKeyConstraint("repository_id", "blob_id"),
    Index(None, "blob_id"),
    sqlite_with_rowid=False,
)

empty_repository = Table(  # those that a collection has found empty
    "empty_repository",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("since", Double, nullable=False),
    Column("hidden", SmallInteger, nullable=False, server_default="0"),  # 1: no list has it while it has no member
    PrimaryKeyConstraint("repository_id"),
    sqlite_with_rowid=False,
)

listed_again = Table(  # hidden ones that have got a member; perhaps twice, so that no push waits for another here
    "listed_again",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False, index=True),
)

collection_state = Table(  # one row at most
    "collection_state",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),  # 1
    Column("database_id", BinaryText),  # as .gc/state.json names this database; NULL: it has not met its storage yet
    Column("origin", BinaryText),  # new | found | earlier: what storage was when it did
    Column("run", BigInteger, nullable=False, server_default="0"),  # the number of the last collection, as on storage
    Column("intended", BigInteger, nullable=False, server_default="0"),  # that of one that is about to be written there
    Column("former_holder", Text),  # a process of a release that knows nothing of collection
    Column("former_at", Double),  # when it was last seen
    Column("dropped_at", Double),  # up to which sighting rows of doomed were dropped
    Column("orphan_cursor", BinaryText),  # how far a sweep for orphans is; NULL or empty: none is under way
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

upstream_fetch = Table(  # what is on its way from upstreams; all of it may be lost
    "upstream_fetch",
    metadata,
    Column("id", Id, primary_key=True),
    Column("mirror", BinaryText, nullable=False),
    Column("kind", BinaryText, nullable=False),  # blob
    Column("key", BinaryText, nullable=False),  # the digest
    Column("repository", BinaryText, nullable=False),  # by name: the one whose client began it
    Column("state", BinaryText, nullable=False),  # active | published | failed
    Column("epoch", BigInteger, nullable=False),  # raised by each leader: what one before it writes has no effect
    Column("edition", BigInteger, nullable=False),  # raised when it begins anew: earlier bytes may be other ones
    Column("holder", Text),  # the process that leads it; NULL: none does
    Column("clock", Text, nullable=False),  # of deadline, touched_at and retry_at
    Column("deadline", Double, nullable=False),  # when the holder counts as dead
    Column("touched_at", Double, nullable=False),
    Column("size", BigInteger),  # of the whole; NULL: the upstream has not said
    Column("etag", Text),
    Column("media_type", Text),
    Column("offset", BigInteger, nullable=False, server_default="0"),  # bytes that are kept
    Column("upload_id", Text),
    Column("driver_state", Text, nullable=False, server_default=""),
    Column("tail", LargeBinary),
    Column("fails", BigInteger, nullable=False, server_default="0"),  # in a row
    Column("error", Text),  # why the last leader gave up
    Column("retry_at", Double),  # no process leads it before
    Column("started_at", Double, nullable=False),
    UniqueConstraint("mirror", "key"),
)

mirror_tag = Table(  # what upstreams said of tags; a row may be lost
    "mirror_tag",
    metadata,
    Column("repository_id", Id, ForeignKey("repository.id", ondelete="CASCADE"), nullable=False),
    Column("name", BinaryText, nullable=False),
    Column("digest", BinaryText),  # what it was upstream; NULL: not answered yet
    Column("etag", Text),  # as it was sent
    Column("checked_at", Double, nullable=False, server_default="0"),  # when the request of that answer began
    Column("next_at", Double, nullable=False, server_default="0"),  # no process asks before
    Column("fails", BigInteger, nullable=False, server_default="0"),  # requests in a row that gave no answer
    Column("gone_at", Double),  # when the request began whose answer was that it is not there; NULL: it was there
    PrimaryKeyConstraint("repository_id", "name"),
    sqlite_with_rowid=False,
)

mirror_state = Table(  # how upstreams do, by the names of mirrors
    "mirror_state",
    metadata,
    Column("mirror", BinaryText, nullable=False),
    Column("configuration", Text, nullable=False),  # a hash of the settings that the rest was found out with
    Column("paused_until", Double, nullable=False, server_default="0"),
    Column("limits", BigInteger, nullable=False, server_default="0"),  # pauses in a row
    Column("fails", BigInteger, nullable=False, server_default="0"),  # requests in a row that gave no answer
    Column("next_at", Double, nullable=False, server_default="0"),  # while it fails, no process asks before
    Column("remaining", BigInteger),  # requests that are left; NULL: it does not say
    Column("error", Text),  # of the last request that failed; NULL: another one was answered since
    Column("last_error", Text),  # of the last request that failed
    Column("failed_at", Double),  # when that was
    PrimaryKeyConstraint("mirror"),
    sqlite_with_rowid=False,
)

remote_miss = Table(  # what upstreams did not have
    "remote_miss",
    metadata,
    Column("mirror", BinaryText, nullable=False),
    Column("key", BinaryText, nullable=False),  # repository:tag, repository@digest
    Column("until", Double, nullable=False),
    PrimaryKeyConstraint("mirror", "key"),
    Index(None, "until"),
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

quota_usage = Table(  # no row: never counted
    "quota_usage",
    metadata,
    Column("quota", BinaryText, nullable=False),  # a hash of its patterns
    Column("used", BigInteger, nullable=False),  # bytes: what was counted, and what pushes have added since
    Column("added", BigInteger, nullable=False),  # bytes that pushes have ever added
    Column("due_at", Double, nullable=False),  # when it is to be counted again
    PrimaryKeyConstraint("quota"),
    sqlite_with_rowid=False,
)

browser_session = Table(
    "browser_session",
    metadata,
    Column("id", BinaryText, primary_key=True),  # a hash of what the browser's cookie has
    Column("actor", BinaryText, nullable=False),  # the name of the identity, as the journal has it
    Column("identity", Text, nullable=False),  # a JSON object
    Column("attempt", BinaryText),  # the login that made it, which makes no second one; NULL: one with a password
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    UniqueConstraint("attempt"),
    Index(None, "actor", "used_at"),
    Index(None, "used_at"),
    Index(None, "expires_at"),
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

rebuild_round = Table(  # a rebuild that has not ended
    "rebuild_round",
    metadata,
    Column("name", BinaryText, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("reached", BinaryText, nullable=False),  # the last repository that is done
    Column("repositories", BigInteger, nullable=False),
    Column("problems", Text, nullable=False),  # a JSON list
    Column("unlisted", BigInteger, nullable=False),  # problems that it does not have
    PrimaryKeyConstraint("name"),
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
