"""The index of references by what they name has their kind too: without it SQLite reads all of a repository instead."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

BEFORE = "ix_reference_repository_id_digest"
AFTER = "ix_reference_repository_id_digest_kind"


def upgrade() -> None:
    op.create_index(op.f(AFTER), "reference", ["repository_id", "digest", "kind"])
    op.drop_index(op.f(BEFORE), "reference")


def downgrade() -> None:
    op.create_index(op.f(BEFORE), "reference", ["repository_id", "digest"])
    op.drop_index(op.f(AFTER), "reference")
