"""Fetches: what is on its way from upstreams, which process brings it, and how far it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    binary = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.create_table(
        "upstream_fetch",
        sa.Column("id", key, nullable=False),
        sa.Column("mirror", binary, nullable=False),
        sa.Column("kind", binary, nullable=False),
        sa.Column("key", binary, nullable=False),
        sa.Column("repository", binary, nullable=False),
        sa.Column("state", binary, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("edition", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("clock", sa.Text(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("touched_at", sa.Double(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("media_type", sa.Text(), nullable=True),
        sa.Column("offset", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("upload_id", sa.Text(), nullable=True),
        sa.Column("driver_state", sa.Text(), nullable=False, server_default=""),
        sa.Column("tail", sa.LargeBinary(), nullable=True),
        sa.Column("fails", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("retry_at", sa.Double(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upstream_fetch")),
        sa.UniqueConstraint("mirror", "key", name=op.f("uq_upstream_fetch_mirror_key")),
    )


def downgrade() -> None:
    op.drop_table("upstream_fetch")
