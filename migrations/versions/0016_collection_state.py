"""Which database collects on a storage, what was found and not made, and a note of processes that know none of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

MACHINE = "(julianday('now') - 2440587.5) * 86400.0"
SERVER = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
NOTE = (
    "INSERT INTO collection_state (id, run, intended, former_holder, former_at) VALUES (1, 0, 0, NEW.holder, {now})"
    " ON CONFLICT (id) DO UPDATE SET former_holder = excluded.former_holder, former_at = excluded.former_at;"
)
SQLITE = (
    "CREATE TRIGGER former_release BEFORE INSERT ON lease WHEN instr(NEW.holder, ':collects:') = 0"
    f" BEGIN {NOTE.format(now=MACHINE)} END"
)
FUNCTION = (
    "CREATE OR REPLACE FUNCTION note_former_release() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" {NOTE.format(now=SERVER)} RETURN NEW; END $$"
)
POSTGRESQL = (
    "CREATE TRIGGER former_release BEFORE INSERT ON lease FOR EACH ROW"
    " WHEN (position(':collects:' IN NEW.holder) = 0) EXECUTE FUNCTION note_former_release()"
)
TRIGGERS = {"sqlite": [SQLITE], "postgresql": [FUNCTION, POSTGRESQL]}


def upgrade() -> None:
    text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    op.add_column("membership", sa.Column("found", sa.SmallInteger(), nullable=True))
    op.create_table(
        "collection_state",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("database_id", text, nullable=True),
        sa.Column("origin", text, nullable=True),
        sa.Column("run", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("intended", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("former_holder", sa.Text(), nullable=True),
        sa.Column("former_at", sa.Double(), nullable=True),
        sa.Column("dropped_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collection_state")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO collection_state (id, run, intended, origin) VALUES (1, 0, 0, 'earlier')")
    for statement in TRIGGERS[op.get_context().dialect.name]:
        op.execute(sa.DDL(statement))  # type: ignore[no-untyped-call]


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TRIGGER former_release")
    else:
        op.execute("DROP TRIGGER former_release ON lease")
        op.execute("DROP FUNCTION note_former_release")
    op.drop_table("collection_state")
    op.drop_column("membership", "found")
