"""The last error of an upstream stays, with its time, when it answers again. The release before knows neither."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mirror_state", sa.Column("last_error", sa.Text(), nullable=True))
    op.add_column("mirror_state", sa.Column("failed_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("mirror_state", "failed_at")
    op.drop_column("mirror_state", "last_error")
