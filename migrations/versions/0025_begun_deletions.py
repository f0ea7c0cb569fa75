"""A manifest of which something attached was deleted already says in which batch, so that the same again goes on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("manifest", sa.Column("deletion", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("manifest", "deletion")
