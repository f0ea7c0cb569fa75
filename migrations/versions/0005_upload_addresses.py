"""Where each upload session was begun from, so that one address does not have all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("upload_session", sa.Column("address", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("upload_session", "address")
