"""A store and a database that a former release wrote go on working, and go back to it (design, "From one release")."""

from __future__ import annotations

import json
import time

import pytest
from sqlalchemy import create_engine, text

from registry.config.settings import Settings
from registry.images.registry import Registry
from tests.soak.client import Client
from tests.support.registry_world import push_image
from tests.upgrade.content import Content
from tests.upgrade.filling import APP, change
from tests.upgrade.places import Tenancy
from tests.upgrade.releases import BEFORE, FORMER
from tests.upgrade.writer import Writer

pytestmark = [pytest.mark.upgrade, pytest.mark.timeout(900)]


def forget_database(tenancy: Tenancy, content: Content, *, withheld_too: bool = True) -> None:
    """Lose it, and expect what storage alone can tell."""
    tenancy.place.lose_database()
    content.forget_what_only_a_database_knows(shared=tenancy.place.shared, withheld_too=withheld_too)


def require_foreign_kept(client: Client, content: Content) -> None:
    """What was pushed although it may be had elsewhere is not deleted under the manifest that names it."""
    for name, repository in content.repositories.items():
        for digest in repository.foreign:
            assert client.call("DELETE", f"/v2/{name}/blobs/{digest}").status == 405, (name, digest)


@pytest.mark.parametrize("former", [*FORMER, BEFORE], indirect=True, ids=str)
def test_what_a_former_release_wrote_is_served_and_changed_and_goes_back(
    tenancy: Tenancy, former: list[str], content: Content
) -> None:
    for note, command in (("present", None), ("former", former), ("again", None)):
        with tenancy.served(command) as client:
            if command is None:
                require_foreign_kept(client, content)
            content.check(client)
            writer = Writer(client, content)
            writer.finish_uploads()
            change(writer, note)
            content.check(client)


def test_a_lost_database_of_a_former_release_is_filled_again(
    tenancy: Tenancy, former: list[str], content: Content
) -> None:
    assert tenancy.rebuild()["repositories"] == len(content.repositories)
    content.forget_what_only_a_database_knows(shared=tenancy.place.shared, withheld_too=False)
    with tenancy.served() as client:
        content.check(client)
        change(Writer(client, content), "rebuilt")
    forget_database(tenancy, content, withheld_too=False)
    with tenancy.served() as client:
        content.check(client)
        change(Writer(client, content), "found")
    forget_database(tenancy, content, withheld_too=False)
    assert tenancy.rebuild()["repositories"] == len(content.repositories)
    with tenancy.served() as client:
        content.check(client)


@pytest.mark.parametrize("former", [*FORMER, BEFORE], indirect=True, ids=str)
def test_tags_that_retention_removed_stay_removed_in_a_former_release(
    tenancy: Tenancy, former: list[str], content: Content
) -> None:
    """Its records have a field that a former release does not know."""
    process = tenancy.registry()
    process.run("db", "upgrade")
    path = process.directory / "rules.json"
    keep = {"any": {"pushed_within": 0}}
    path.write_text(json.dumps({"rules": [{"name": "kills", "repositories": [APP], "tags": "kill*", "keep": keep}]}))
    found = process.run("retention", "--rules", str(path), "--apply", "--force", APP)
    gone = {entry["tag"] for entry in found if entry["action"] == "remove"}  # type: ignore[index]
    assert gone == {tag for tag in content.repositories[APP].tags if tag.startswith("kill")}
    for tag in gone:
        del content.repositories[APP].tags[tag]
        content.repositories[APP].gone.add(f"manifests/{tag}")
    with tenancy.served(former) as client:
        content.check(client)
    forget_database(tenancy, content)
    if tenancy.place.shared:
        content.forget_foreign()
    tenancy.rebuild(former)
    with tenancy.served(former) as client:
        content.check(client)


def test_a_former_release_fills_its_database_from_what_this_one_wrote(
    tenancy: Tenancy, former: list[str], content: Content
) -> None:
    with tenancy.served() as client:
        change(Writer(client, content), "present")
    forget_database(tenancy, content)
    if tenancy.place.shared:
        content.forget_foreign()
    tenancy.rebuild(former)
    with tenancy.served(former) as client:
        content.check(client)
        change(Writer(client, content), "former")
    forget_database(tenancy, content)
    with tenancy.served(former) as client:
        content.check(client)
    tenancy.rebuild()
    content.find_foreign()
    with tenancy.served() as client:
        content.check(client)
        require_foreign_kept(client, content)
    forget_database(tenancy, content)
    with tenancy.served() as client:
        content.check(client)


def times(tenancy: Tenancy) -> dict[tuple[str, str], float]:
    """By repository, and digest or tag: when it was pushed or set, as the database has it."""
    engine = create_engine(tenancy.database_url())
    with engine.connect() as connection:
        rows = connection.execute(text(TIMES)).all()
    engine.dispose()
    return {(name, of): at for name, of, at in rows}


TIMES = (
    "SELECT r.name, b.digest, m.pushed_at FROM manifest m"
    " JOIN repository r ON r.id = m.repository_id JOIN blob b ON b.id = m.blob_id"
    " UNION ALL SELECT r.name, t.name, t.updated_at FROM tag t JOIN repository r ON r.id = t.repository_id"
)


def test_times_of_a_former_release_outlive_its_database(tenancy: Tenancy, former: list[str], content: Content) -> None:
    """It writes none into the index; nor does it when it folds beside this one."""
    time.sleep(2)  # a rebuild that took the present for the past would be seen
    for command in (None, former):
        before = times(tenancy)
        tenancy.place.lose_database()
        tenancy.rebuild()
        after = times(tenancy)
        assert {of for _, of in after} > set(content.repositories[APP].tags)
        assert {of: at for of, at in after.items() if abs(at - before.get(of, 0.0)) >= 1} == {}
        with tenancy.served(command) as client:
            change(Writer(client, content), "present" if command is None else "former")


def test_a_former_release_starts_where_a_later_one_has_added_to_the_schema(
    tenancy: Tenancy, former: list[str], content: Content
) -> None:
    """What comes after this release may add as well: a table, and a column with a default."""
    process = tenancy.registry()
    process.run("db", "upgrade")
    engine = create_engine(tenancy.database_url())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS schema_revision (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("DELETE FROM schema_revision"))
        connection.execute(text("INSERT INTO schema_revision VALUES ('9999')"))
        connection.execute(text("ALTER TABLE manifest ADD COLUMN later INTEGER NOT NULL DEFAULT 0"))
        connection.execute(text("CREATE TABLE later (id INTEGER PRIMARY KEY)"))
    engine.dispose()
    for note, command in (("former", former), ("present", None)):
        with tenancy.served(command) as client:
            content.check(client)
            change(Writer(client, content), note)


def test_a_former_release_takes_records_of_callers_with_names(tenancy: Tenancy, former: list[str]) -> None:
    """The field ``address`` is new: a record that is not folded yet, and one that is history, are read without it."""
    registry = Registry.open(Settings.model_validate(tenancy.place.config))
    made = push_image(registry, "named", "first", name=APP)
    body, kind = made.manifest.data, made.manifest.media_type
    for tag in ("folded", "pending"):
        registry.manifests.put(APP, body, kind, digest=None, tags=[tag], actor="user:alice", address="192.0.2.7")
        if tag == "folded":
            registry.fold_waiting()
    registry.close()
    with tenancy.served(former) as client:
        for tag in ("first", "folded", "pending"):
            assert client.call("GET", f"/v2/{APP}/manifests/{tag}").body == body
        assert client.call("DELETE", f"/v2/{APP}/manifests/first").status == 202
    tenancy.place.lose_database()
    tenancy.rebuild(former)
    with tenancy.served(former) as client:
        assert client.call("GET", f"/v2/{APP}/manifests/pending").body == body
