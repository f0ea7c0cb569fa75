"""How many manifests an index named that were not there when it was read: then it is read again, unchanged as it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("repository", sa.Column("missing", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("repository", "missing")
