"""Hidden repositories are told apart in their own rows, so that lists do not pass over each of them.

And the trash of a repository is found in the order of its changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# As registry.database.collection.doom_triggers had them when this was written.
LISTED_AGAIN = (
    "INSERT INTO listed_again (repository_id) SELECT e.repository_id FROM empty_repository e"
    " WHERE e.repository_id = NEW.repository_id AND e.hidden = 1"
    " AND NOT EXISTS (SELECT 1 FROM listed_again l WHERE l.repository_id = NEW.repository_id)"
)
HIDDEN = "UPDATE repository SET hidden = NEW.hidden WHERE id = NEW.repository_id"
SHOWN = "UPDATE repository SET hidden = 0 WHERE id = OLD.repository_id"
TRIGGERS = (
    ("list_again", "INSERT", "membership", "", LISTED_AGAIN),
    ("hide_repository", "UPDATE OF hidden", "empty_repository", " WHEN (OLD.hidden <> NEW.hidden)", HIDDEN),
    ("show_repository", "DELETE", "empty_repository", " WHEN (OLD.hidden <> 0)", SHOWN),
)


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("repository", sa.Column("hidden", sa.SmallInteger(), nullable=False, server_default="0"))
    op.create_index(
        "ix_repository_listed",
        "repository",
        ["name"],
        sqlite_where=sa.text("hidden = 0"),
        postgresql_where=sa.text("hidden = 0"),
    )
    op.create_table(
        "listed_again",
        sa.Column("repository_id", key, nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repository.id"],
            name=op.f("fk_listed_again_repository_id"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_listed_again_repository_id"), "listed_again", ["repository_id"])
    op.execute(
        "UPDATE repository SET hidden = 1 WHERE id IN (SELECT repository_id FROM empty_repository WHERE hidden = 1)"
    )
    op.execute(
        "INSERT INTO listed_again (repository_id) SELECT r.id FROM repository r WHERE r.hidden = 1"
        " AND EXISTS (SELECT 1 FROM membership m WHERE m.repository_id = r.id)"
    )
    op.create_index(op.f("ix_trash_manifest_repository_id_sequence"), "trash_manifest", ["repository_id", "sequence"])
    for name, event, table, when, action in TRIGGERS:
        made = f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW{when}"
        if op.get_bind().dialect.name == "sqlite":
            op.execute(f"{made} BEGIN {action}; END")
        else:
            function = f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
            op.execute(f"{function} 'BEGIN {action}; RETURN NULL; END'")
            op.execute(f"{made} EXECUTE FUNCTION {name}()")


def downgrade() -> None:
    for name, _event, table, *_rest in TRIGGERS:
        if op.get_bind().dialect.name == "sqlite":
            op.execute(f"DROP TRIGGER {name}")
        else:
            op.execute(f"DROP TRIGGER {name} ON {table}")
            op.execute(f"DROP FUNCTION {name}()")
    op.drop_index("ix_trash_manifest_repository_id_sequence", "trash_manifest")
    op.drop_table("listed_again")
    op.drop_index("ix_repository_listed", "repository")
    op.drop_column("repository", "hidden")
