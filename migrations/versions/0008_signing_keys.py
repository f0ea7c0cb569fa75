"""Keys with which all processes sign what they give to clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "signing_key",
        sa.Column("id", text, nullable=False),
        sa.Column("purpose", text, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_key")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("signing_key")
