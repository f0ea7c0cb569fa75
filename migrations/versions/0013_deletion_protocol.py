"""Claims and leases by a clock that nothing sets, and tombstones of blobs whose object was deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BLOB = ("lease_until", "lease_seconds", "gone_at")
CLOCKS = {"blob": ("lease_clock", "gone_clock"), "blob_location": ("claim_timed", "claim_clock")}


def upgrade() -> None:
    for table, names in CLOCKS.items():
        for name in names:
            op.add_column(table, sa.Column(name, sa.Text(), nullable=True))
    for name in BLOB:
        op.add_column("blob", sa.Column(name, sa.Double(), nullable=True))
    op.add_column("blob_location", sa.Column("claim_until", sa.Double(), nullable=True))
    op.add_column("blob_location", sa.Column("claim_sent", sa.SmallInteger(), nullable=True))
    gone, deleting = sa.text("state = 'gone'"), sa.text("state = 'deleting'")
    op.create_index("ix_blob_gone", "blob", ["gone_at"], sqlite_where=gone, postgresql_where=gone)
    op.create_index(
        "ix_blob_location_deleting",
        "blob_location",
        ["store", "key"],
        sqlite_where=deleting,
        postgresql_where=deleting,
    )


def downgrade() -> None:
    op.drop_index("ix_blob_location_deleting", "blob_location")
    op.drop_index("ix_blob_gone", "blob")
    for name in ("claim_sent", "claim_until"):
        op.drop_column("blob_location", name)
    for name in BLOB:
        op.drop_column("blob", name)
    for table, names in CLOCKS.items():
        for name in names:
            op.drop_column(table, name)
