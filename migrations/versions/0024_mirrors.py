"""What is known of upstreams: how each does, what it said of tags, and what it did not have.

All of it may be lost: it costs requests. The release before looks at none of it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    binary = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "mirror_tag",
        sa.Column("repository_id", key, nullable=False),
        sa.Column("name", binary, nullable=False),
        sa.Column("digest", binary, nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("checked_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("next_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("fails", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("gone_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name=op.f("fk_mirror_tag_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_mirror_tag")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mirror_state",
        sa.Column("mirror", binary, nullable=False),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("paused_until", sa.Double(), nullable=False, server_default="0"),
        sa.Column("limits", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("fails", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("next_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("remaining", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("mirror", name=op.f("pk_mirror_state")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "remote_miss",
        sa.Column("mirror", binary, nullable=False),
        sa.Column("key", binary, nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("mirror", "key", name=op.f("pk_remote_miss")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_remote_miss_until"), "remote_miss", ["until"])


def downgrade() -> None:
    op.drop_index(op.f("ix_remote_miss_until"), "remote_miss")
    for name in ("remote_miss", "mirror_state", "mirror_tag"):
        op.drop_table(name)
