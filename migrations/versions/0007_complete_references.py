"""Which manifests have rows for everything that they name; those of earlier releases may lack some."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("manifest", sa.Column("complete", sa.SmallInteger(), server_default="0", nullable=False))
    incomplete = sa.text("complete = 0")
    op.create_index(
        "ix_manifest_incomplete",
        "manifest",
        ["repository_id", "blob_id"],
        sqlite_where=incomplete,
        postgresql_where=incomplete,
    )


def downgrade() -> None:
    op.drop_index("ix_manifest_incomplete", "manifest")
    op.drop_column("manifest", "complete")
