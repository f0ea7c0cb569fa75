"""Where another registry's bytes are, and whether a store may be written to (proposal 0005).

What the release before does not write means: no process has looked for a migration on storage yet.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BinaryText = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "store",
        sa.Column("name", BinaryText, nullable=False),
        sa.Column("migration", sa.Text(), nullable=True),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("mode", BinaryText, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("prefixes", sa.Text(), server_default="", nullable=False),
        sa.Column("looked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_store")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_blob_location_migration_id"), "blob_location", ["migration", "id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_blob_location_migration_id"), table_name="blob_location")
    op.drop_table("store")
