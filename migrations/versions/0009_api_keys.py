"""When API keys were used, and the marks that tell processes to forget those that were revoked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "generation",
        sa.Column("name", text, nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_generation")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "key_use",
        sa.Column("id", text, nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_use")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("key_use")
    op.drop_table("generation")
