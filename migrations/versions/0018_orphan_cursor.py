"""How far the sweep for orphans is, so that one that is stopped goes on there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.add_column("collection_state", sa.Column("orphan_cursor", text, nullable=True))


def downgrade() -> None:
    op.drop_column("collection_state", "orphan_cursor")
