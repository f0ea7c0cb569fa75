"""The foundation: repositories, blobs and their locations, manifests, tags, changes, upload sessions, leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Spelled out here, not imported: a migration stays as it was when the tables move on.
BinaryText = sa.String().with_variant(sa.String(collation="C"), "postgresql")
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "blob",
        sa.Column("id", Id, nullable=False),
        sa.Column("algorithm", BinaryText, nullable=False),
        sa.Column("digest", BinaryText, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", BinaryText, nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claim_token", sa.Text(), nullable=True),
        sa.Column("claim_deadline", sa.Double(), nullable=True),
        sa.Column("leased_until", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob")),
        sa.UniqueConstraint("digest", name=op.f("uq_blob_digest")),
    )
    op.create_table(
        "lease",
        sa.Column("name", BinaryText, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reference",
        sa.Column("repository_id", Id, nullable=False),
        sa.Column("manifest_id", Id, nullable=False),
        sa.Column("digest", BinaryText, nullable=False),
        sa.Column("kind", BinaryText, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "manifest_id", "digest", name=op.f("pk_reference")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_reference_repository_id_digest"), "reference", ["repository_id", "digest"], unique=False)
    op.create_table(
        "repository",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", BinaryText, nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("folded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("signature", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repository")),
        sa.UniqueConstraint("name", name=op.f("uq_repository_name")),
    )
    op.create_table(
        "upload_session",
        sa.Column("id", BinaryText, nullable=False),
        sa.Column("repository", BinaryText, nullable=False),
        sa.Column("offset", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("algorithm", BinaryText, nullable=False),
        sa.Column("digest", BinaryText, nullable=True),
        sa.Column("driver_state", sa.Text(), server_default="", nullable=False),
        sa.Column("tail", sa.LargeBinary(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_session")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "blob_location",
        sa.Column("id", Id, nullable=False),
        sa.Column("blob_id", Id, nullable=False),
        sa.Column("store", BinaryText, nullable=False),
        sa.Column("key", BinaryText, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.Text(), server_default="", nullable=False),
        sa.Column("state", BinaryText, nullable=False),
        sa.Column("claim_token", sa.Text(), nullable=True),
        sa.Column("claim_deadline", sa.Double(), nullable=True),
        sa.Column("verified_at", sa.Double(), nullable=True),
        sa.Column("migration", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_blob_location_blob_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob_location")),
        sa.UniqueConstraint("store", "key", name=op.f("uq_blob_location_store_key")),
    )
    op.create_index(op.f("ix_blob_location_blob_id"), "blob_location", ["blob_id"], unique=False)
    op.create_table(
        "change",
        sa.Column("repository_id", Id, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("state", BinaryText, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name=op.f("fk_change_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "sequence", name=op.f("pk_change")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "manifest",
        sa.Column("repository_id", Id, nullable=False),
        sa.Column("blob_id", Id, nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("artifact_type", BinaryText, nullable=True),
        sa.Column("subject", BinaryText, nullable=True),
        sa.Column("annotations", sa.Text(), nullable=False),
        sa.Column("pushed_at", sa.Double(), nullable=False),
        sa.Column("pulled_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_manifest_blob_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name=op.f("fk_manifest_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "blob_id", name=op.f("pk_manifest")),
    )
    op.create_index(op.f("ix_manifest_blob_id"), "manifest", ["blob_id"], unique=False)
    op.create_index(op.f("ix_manifest_repository_id_subject"), "manifest", ["repository_id", "subject"], unique=False)
    op.create_table(
        "membership",
        sa.Column("repository_id", Id, nullable=False),
        sa.Column("blob_id", Id, nullable=False),
        sa.Column("added_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_membership_blob_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name=op.f("fk_membership_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "blob_id", name=op.f("pk_membership")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_membership_blob_id"), "membership", ["blob_id"], unique=False)
    op.create_table(
        "tag",
        sa.Column("repository_id", Id, nullable=False),
        sa.Column("name", BinaryText, nullable=False),
        sa.Column("blob_id", Id, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name=op.f("fk_tag_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_tag")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_tag_repository_id_blob_id"), "tag", ["repository_id", "blob_id"], unique=False)


def downgrade() -> None:
    op.drop_table("tag")
    op.drop_table("membership")
    op.drop_table("manifest")
    op.drop_table("change")
    op.drop_table("blob_location")
    op.drop_table("upload_session")
    op.drop_table("repository")
    op.drop_table("reference")
    op.drop_table("lease")
    op.drop_table("blob")
