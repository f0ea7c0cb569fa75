"""For stores that are far away: the bytes of manifests, and when a repository was last looked at on storage.

What the release before does not write is asked of storage.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BinaryText = sa.String().with_variant(sa.String(collation="C"), "postgresql")
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("repository", sa.Column("looked_at", sa.Double(), server_default="0", nullable=False))
    op.create_table(
        "manifest_body",
        sa.Column("blob_id", Id, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_manifest_body_blob_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("blob_id", name=op.f("pk_manifest_body")),
    )
    op.create_table(
        "milestone",
        sa.Column("name", BinaryText, nullable=False),
        sa.Column("reached_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_milestone")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("milestone")
    op.drop_table("manifest_body")
    op.drop_column("repository", "looked_at")
