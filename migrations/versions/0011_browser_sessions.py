"""Sessions of users that have logged in with a browser."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "browser_session",
        sa.Column("id", text, nullable=False),
        sa.Column("actor", text, nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("attempt", text),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_session")),
        sa.UniqueConstraint("attempt", name=op.f("uq_browser_session_attempt")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_browser_session_actor_used_at"), "browser_session", ["actor", "used_at"])
    op.create_index(op.f("ix_browser_session_used_at"), "browser_session", ["used_at"])
    op.create_index(op.f("ix_browser_session_expires_at"), "browser_session", ["expires_at"])


def downgrade() -> None:
    op.drop_table("browser_session")
