"""Rows of what is out of use: each end of a use removes them, whatever code ends it (I14)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.database import blobs, manifests, memberships, references, repositories, tags
from registry.database.collection import doomed
from registry.database.engine import Database
from registry.database.statement import Statement
from registry.database.transaction import Transaction

COUNT = 100


class Content:
    """A repository with an index, its child, a blob of that, and what refers to it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.transaction() as connection:
            self.repository = repositories.create(connection, "team/app", etag="", now=0.0).id
            names = ("index", "child", "referrer", "layer", "other")
            self.ids = {name: blobs.adopt(connection, f"sha256:{name:0>64}", size=1).id for name in names}
            for blob in self.ids.values():
                memberships.add(connection, self.repository, blob, now=0.0)
            for name in ("index", "child", "referrer"):
                self.put(connection, name, subject="child" if name == "referrer" else None)
            references.add(connection, self.repository, self.ids["index"], [(self.digest("child"), "manifest")])
            references.add(connection, self.repository, self.ids["child"], [(self.digest("layer"), "blob")])
            tags.put(connection, self.repository, "v1", self.ids["index"], sequence=1, now=0.0)

    def digest(self, name: str) -> str:
        return f"sha256:{name:0>64}"

    def put(self, connection: Transaction, name: str, *, subject: str | None = None) -> None:
        manifests.put(
            connection,
            self.repository,
            self.ids[name],
            media_type="",
            artifact_type=None,
            subject=None if subject is None else self.digest(subject),
            annotations="{}",
            now=0.0,
        )

    def doom_all(self) -> None:
        """Rows for everything, as if it had been out of use for long."""
        insert = Statement("INSERT INTO doomed (repository_id, blob_id, since) VALUES (:repository, :blob, 1.0)")
        with self.database.transaction() as connection:
            rows = [(self.repository, blob) for blob in self.ids.values()] + [(0, blob) for blob in self.ids.values()]
            connection.execute_many(insert, [{"repository": each, "blob": blob} for each, blob in rows])

    def doomed(self) -> set[tuple[bool, str]]:
        """Which have a row: of the repository, and of what no repository has."""
        names = {blob: name for name, blob in self.ids.items()}
        with self.database.autocommit() as connection:
            rows = connection.execute(Statement("SELECT repository_id, blob_id FROM doomed"), {}).all()
        return {(repository != 0, names[blob]) for repository, blob in rows}


@pytest.fixture
def content(database: Database) -> Content:
    return Content(database)


def untag(content: Content, connection: Transaction) -> None:
    tags.remove(connection, content.repository, "v1")


def retag(content: Content, connection: Transaction) -> None:
    tags.put(connection, content.repository, "v1", content.ids["child"], sequence=2, now=1.0)


def retag_the_same(content: Content, connection: Transaction) -> None:
    tags.put(connection, content.repository, "v1", content.ids["index"], sequence=2, now=1.0)


def remove_index(content: Content, connection: Transaction) -> None:
    manifests.remove(connection, content.repository, content.ids["index"])


def remove_child(content: Content, connection: Transaction) -> None:
    manifests.remove(connection, content.repository, content.ids["child"])


def list_no_more(content: Content, connection: Transaction) -> None:
    references.add(connection, content.repository, content.ids["index"], [(content.digest("child"), "former")])


def leave(content: Content, connection: Transaction) -> None:
    memberships.remove(connection, content.repository, content.ids["other"])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (untag, {(True, "index")}),
        (retag, {(True, "index")}),
        (retag_the_same, set()),
        (remove_index, {(True, "index"), (True, "child")}),
        (remove_child, {(True, "layer"), (True, "referrer")}),
        (list_no_more, {(True, "child")}),
        (leave, {(True, "other"), (False, "other")}),
    ],
)
def test_the_end_of_a_use_removes_the_rows_of_what_was_used(
    content: Content, change: Callable[[Content, Transaction], None], names: set[tuple[bool, str]]
) -> None:
    content.doom_all()
    before = content.doomed()
    with content.database.transaction() as connection:
        change(content, connection)
    assert before - content.doomed() == names


def test_what_is_out_of_use_is_found_and_nothing_else(content: Content) -> None:
    with content.database.transaction() as connection:
        tags.remove(connection, content.repository, "v1")
        found, place = doomed.unused(connection, after=doomed.START, count=COUNT)
        assert place is None
        assert {row.blob_id for row in found} == {content.ids["index"], content.ids["other"]}
        assert doomed.doom(connection, content.repository, list(content.ids.values())) == 2
        assert doomed.doom(connection, content.repository, list(content.ids.values())) == 0
        rows = doomed.members(connection, after=doomed.START, count=COUNT).get()
    assert {(row.blob_id, bool(row.is_manifest), bool(row.is_used)) for row in rows} == {
        (content.ids["index"], True, False),
        (content.ids["other"], False, False),
    }


def test_rows_of_what_is_used_again_say_so(content: Content) -> None:
    content.doom_all()
    with content.database.autocommit() as connection:
        members = doomed.members(connection, after=doomed.START, count=COUNT).get()
        held = doomed.blobs(connection, after=-1, count=COUNT).get()
    assert {row.blob_id for row in members if not row.is_used} == {content.ids["other"]}
    assert all(row.is_held for row in held)


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_pages_come_to_the_end_and_leave_nothing_out(content: Content, count: int) -> None:
    with content.database.transaction() as connection:
        tags.remove(connection, content.repository, "v1")
        found = list[int]()
        place: tuple[int, int] | None = doomed.START
        while place is not None:
            rows, place = doomed.unused(connection, after=place, count=count)
            found += [row.blob_id for row in rows]
        assert sorted(found) == sorted({content.ids["index"], content.ids["other"]})
        memberships.remove_all(connection, content.repository, [content.ids["layer"], content.ids["other"]])
        unheld = list[int]()
        after: int | None = -1
        while after is not None:
            rows_of_blobs, after = doomed.unheld(connection, after=after, count=count)
            unheld += [row.blob_id for row in rows_of_blobs]
        assert sorted(unheld) == sorted({content.ids["layer"], content.ids["other"]})
        assert doomed.doom_unheld(connection, unheld, age=5.0) == 2
        assert {round(row.age) for row in doomed.blobs(connection, after=-1, count=COUNT).get()} == {5}
