"""The trash, and since when content is out of use. The release before knows neither: nothing is collected beside it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "trash_manifest",
        sa.Column("repository_id", key, nullable=False),
        sa.Column("blob_id", key, nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.Double(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_trash_manifest_blob_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repository.id"],
            name=op.f("fk_trash_manifest_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", "blob_id", name=op.f("pk_trash_manifest")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_trash_manifest_blob_id"), "trash_manifest", ["blob_id"])
    op.create_index(op.f("ix_trash_manifest_removed_at"), "trash_manifest", ["removed_at"])
    op.create_table(
        "trash_reference",
        sa.Column("repository_id", key, nullable=False),
        sa.Column("manifest_id", key, nullable=False),
        sa.Column("digest", text, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "manifest_id", "digest", name=op.f("pk_trash_reference")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_trash_reference_digest"), "trash_reference", ["digest"])
    op.create_table(
        "doomed",
        sa.Column("repository_id", key, nullable=False),
        sa.Column("blob_id", key, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_doomed_blob_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("repository_id", "blob_id", name=op.f("pk_doomed")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_doomed_blob_id"), "doomed", ["blob_id"])


def downgrade() -> None:
    op.drop_table("doomed")
    op.drop_table("trash_reference")
    op.drop_table("trash_manifest")
