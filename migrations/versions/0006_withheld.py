"""What manifests name and their repositories do not have, so that naming it gives no right to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "withheld",
        sa.Column("repository_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", text, nullable=False),
        sa.Column("kind", text, nullable=False),
        sa.Column("released", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name=op.f("fk_withheld_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "digest", "kind", name=op.f("pk_withheld")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("withheld")
