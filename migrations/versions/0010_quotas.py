"""How many bytes the repositories of each quota have. The release before refuses settings with quotas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quota_usage",
        sa.Column("quota", sa.String().with_variant(sa.String(collation="C"), "postgresql"), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("quota", name=op.f("pk_quota_usage")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("quota_usage")
