"""When a scrub last read each object whole. The release before does not know it, and loses nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("blob_location", sa.Column("scrubbed_at", sa.Double(), nullable=True))
    op.create_index(
        "ix_blob_location_scrubbed",
        "blob_location",
        ["store", "scrubbed_at", "id"],
        sqlite_where=sa.text("scrubbed_at IS NOT NULL"),
        postgresql_where=sa.text("scrubbed_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_blob_location_scrubbed", "blob_location")
    op.drop_column("blob_location", "scrubbed_at")
