"""When an upload that took long last ended in a repository: what its push was told is there may not be named yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("repository", sa.Column("uploaded_at", sa.Double(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("repository", "uploaded_at")
