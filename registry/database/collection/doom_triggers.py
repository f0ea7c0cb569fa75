"""Triggers: what falls out of use anew is not doomed any more, so that its time out of use begins again (I14).

Triggers see every change of every release, and of code that does not know of the collection. A row of ``doomed`` says
since when something has been out of use without a break: it goes whenever a use ends, and the next run of a collection
that finds the thing out of use makes a new one. Nothing is written when a use begins, which is what pushes do, but once
when the first blob comes into a hidden repository: the row that says so waits for no other transaction.

Tests: ``tests/database/collection/test_doomed.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Trigger(NamedTuple):
    """What is done for each row of an event."""

    name: str
    event: str
    table: str
    condition: str
    """Empty for none."""
    action: str


_FORGET_NAMED = (
    "DELETE FROM doomed WHERE repository_id = OLD.repository_id"
    " AND blob_id = (SELECT b.id FROM blob b WHERE b.digest = OLD.digest)"
)
_FORGET_TAGGED = "DELETE FROM doomed WHERE repository_id = OLD.repository_id AND blob_id = OLD.blob_id"
TRIGGERS: Final = (
    Trigger("doom_unnamed", "DELETE", "reference", "", _FORGET_NAMED),
    Trigger("doom_formerly_named", "UPDATE OF kind", "reference", "OLD.kind <> NEW.kind", _FORGET_NAMED),
    Trigger("doom_untagged", "DELETE", "tag", "", _FORGET_TAGGED),
    Trigger("doom_retagged", "UPDATE OF blob_id", "tag", "OLD.blob_id <> NEW.blob_id", _FORGET_TAGGED),
    Trigger(
        "doom_unattached",
        "DELETE",
        "manifest",
        "",
        "DELETE FROM doomed WHERE repository_id = OLD.repository_id AND blob_id IN (SELECT m.blob_id FROM manifest m"
        " WHERE m.repository_id = OLD.repository_id"
        " AND m.subject = (SELECT b.digest FROM blob b WHERE b.id = OLD.blob_id))",
    ),
    Trigger(
        "doom_unheld",
        "DELETE",
        "membership",
        "",
        "DELETE FROM doomed WHERE repository_id IN (0, OLD.repository_id) AND blob_id = OLD.blob_id",
    ),
    Trigger(
        "doom_emptied",
        "DELETE",
        "membership",
        "",
        "DELETE FROM empty_repository WHERE repository_id = OLD.repository_id",
    ),
    Trigger(
        "hide_repository",
        "UPDATE OF hidden",
        "empty_repository",
        "OLD.hidden <> NEW.hidden",
        "UPDATE repository SET hidden = NEW.hidden WHERE id = NEW.repository_id",
    ),
    Trigger(
        "show_repository",
        "DELETE",
        "empty_repository",
        "OLD.hidden <> 0",
        "UPDATE repository SET hidden = 0 WHERE id = OLD.repository_id",
    ),
    Trigger(
        "list_again",
        "INSERT",
        "membership",
        "",
        "INSERT INTO listed_again (repository_id) SELECT e.repository_id FROM empty_repository e"
        " WHERE e.repository_id = NEW.repository_id AND e.hidden = 1"
        " AND NOT EXISTS (SELECT 1 FROM listed_again l WHERE l.repository_id = NEW.repository_id)",
    ),
)
"""The end of each kind of use, and which repositories lists have."""


def create(connection: Connection) -> None:
    """Make them; their tables are there."""
    for trigger in TRIGGERS:
        for statement in _statements(trigger, is_sqlite=connection.dialect.name == "sqlite"):
            connection.execute(text(statement))


def _statements(trigger: Trigger, *, is_sqlite: bool) -> list[str]:
    when = f" WHEN ({trigger.condition})" if trigger.condition else ""
    made = f"CREATE TRIGGER {trigger.name} AFTER {trigger.event} ON {trigger.table} FOR EACH ROW{when}"
    if is_sqlite:
        return [f"{made} BEGIN {trigger.action}; END"]
    function = f"CREATE OR REPLACE FUNCTION {trigger.name}() RETURNS trigger LANGUAGE plpgsql AS"
    return [
        f"{function} 'BEGIN {trigger.action}; RETURN NULL; END'",
        f"{made} EXECUTE FUNCTION {trigger.name}()",
    ]
