"""Triggers by which what falls out of use anew is not doomed any more, whichever release ends its use."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# As registry.database.collection.doom_triggers had them when this was written.
NAMED = (
    "DELETE FROM doomed WHERE repository_id = OLD.repository_id"
    " AND blob_id = (SELECT b.id FROM blob b WHERE b.digest = OLD.digest)"
)
TAGGED = "DELETE FROM doomed WHERE repository_id = OLD.repository_id AND blob_id = OLD.blob_id"
UNATTACHED = (
    "DELETE FROM doomed WHERE repository_id = OLD.repository_id AND blob_id IN (SELECT m.blob_id FROM manifest m"
    " WHERE m.repository_id = OLD.repository_id"
    " AND m.subject = (SELECT b.digest FROM blob b WHERE b.id = OLD.blob_id))"
)
UNHELD = "DELETE FROM doomed WHERE repository_id IN (0, OLD.repository_id) AND blob_id = OLD.blob_id"
TRIGGERS = (
    ("doom_unnamed", "DELETE", "reference", "", NAMED),
    ("doom_formerly_named", "UPDATE OF kind", "reference", " WHEN (OLD.kind <> NEW.kind)", NAMED),
    ("doom_untagged", "DELETE", "tag", "", TAGGED),
    ("doom_retagged", "UPDATE OF blob_id", "tag", " WHEN (OLD.blob_id <> NEW.blob_id)", TAGGED),
    ("doom_unattached", "DELETE", "manifest", "", UNATTACHED),
    ("doom_unheld", "DELETE", "membership", "", UNHELD),
)


def upgrade() -> None:
    for name, event, table, when, action in TRIGGERS:
        made = f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW{when}"
        if op.get_bind().dialect.name == "sqlite":
            op.execute(f"{made} BEGIN {action}; END")
        else:
            function = f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
            op.execute(f"{function} 'BEGIN {action}; RETURN NULL; END'")
            op.execute(f"{made} EXECUTE FUNCTION {name}()")


def downgrade() -> None:
    for name, _event, table, _when, _action in TRIGGERS:
        if op.get_bind().dialect.name == "sqlite":
            op.execute(f"DROP TRIGGER {name}")
        else:
            op.execute(f"DROP TRIGGER {name} ON {table}")
            op.execute(f"DROP FUNCTION {name}()")
