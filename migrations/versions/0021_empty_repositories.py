"""Since when repositories are empty, and which of them no list has. The release before lists these as it did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# As registry.database.collection.doom_triggers had it when this was written.
TRIGGER = "doom_emptied"
ACTION = "DELETE FROM empty_repository WHERE repository_id = OLD.repository_id"


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "empty_repository",
        sa.Column("repository_id", key, nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("hidden", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repository.id"],
            name=op.f("fk_empty_repository_repository_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("repository_id", name=op.f("pk_empty_repository")),
        sqlite_with_rowid=False,
    )
    made = f"CREATE TRIGGER {TRIGGER} AFTER DELETE ON membership FOR EACH ROW"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"{made} BEGIN {ACTION}; END")
    else:
        function = f"CREATE OR REPLACE FUNCTION {TRIGGER}() RETURNS trigger LANGUAGE plpgsql AS"
        op.execute(f"{function} 'BEGIN {ACTION}; RETURN NULL; END'")
        op.execute(f"{made} EXECUTE FUNCTION {TRIGGER}()")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {TRIGGER}")
    else:
        op.execute(f"DROP TRIGGER {TRIGGER} ON membership")
        op.execute(f"DROP FUNCTION {TRIGGER}()")
    op.drop_table("empty_repository")
