"""How far a rebuild has come. The release before knows neither: its rebuilds read everything, as before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.add_column("repository", sa.Column("rebuilt", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "rebuild_round",
        sa.Column("name", text, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("reached", text, nullable=False),
        sa.Column("repositories", sa.BigInteger(), nullable=False),
        sa.Column("problems", sa.Text(), nullable=False),
        sa.Column("unlisted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rebuild_round")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("rebuild_round")
    op.drop_column("repository", "rebuilt")
