"""Empty repositories leave the lists, and of what was never written nothing stays; the next push goes on as ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database import repositories, upload_sessions
from registry.database.upload_sessions import SessionRow
from registry.images.registry import Registry
from registry.maintenance.collection.finding import Kept, Kind
from registry.maintenance.collection.steps.empty_repositories import HIDDEN
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.usage.range_usage import ALL, RangeUsage
from registry.oci.digest import Digest
from registry.oci.errors import NameUnknown
from registry.oci.quotas import Quotas
from tests.maintenance.collection.steps.emptying import (
    GRACE,
    NAMES_NOTHING,
    SHARED,
    TIMES,
    WINDOW,
    attempt,
    empty_unused,
    empty_used,
    has_row,
    last_record,
    listed,
    pass_grace,
    repositories_of,
    stored,
    used_again,
)
from tests.support.collection import run, settle
from tests.support.registry_world import (
    ACTOR,
    KINDS,
    NAME,
    World,
    make_image,
    pull,
    push_blob,
    push_image,
    push_manifest,
    read_index,
    tags,
)


@pytest.fixture
def registry(world: World) -> Registry:
    return world.registry(**TIMES)


def test_a_repository_with_content_stays_however_old_it_is(world: World, registry: Registry) -> None:
    push_image(registry, "one", "v1")
    registry.fold_waiting()
    for _ in range(3):
        world.clock.now += WINDOW * 10
        assert repositories_of(run(registry)) == []
    assert listed(registry) == [NAME]


def test_an_emptied_repository_leaves_the_lists_after_the_grace_and_not_before(
    world: World, registry: Registry
) -> None:
    empty_used(world, registry)
    sighted = run(registry)
    assert [(each.kind, each.repository, each.until) for each in sighted.waiting] == [
        (Kind.REPOSITORY, NAME, world.clock.now + GRACE)
    ]
    world.clock.now += GRACE - 1
    assert repositories_of(run(registry)) == []
    assert listed(registry) == [NAME]
    world.clock.now += 2
    before = stored(registry)
    assert repositories_of(run(registry)) == [(NAME, HIDDEN)]
    assert listed(registry) == []
    assert stored(registry) == before, "what storage has of it stays"
    assert repositories_of(run(registry)) == [], "once"


def test_its_history_stays_and_its_numbers_go_on(world: World, registry: Registry) -> None:
    empty_used(world, registry)
    pass_grace(world, registry)
    history = registry.change_history.page(NAME, count=10).records
    assert [record.operation for record in history] == ["delete", "put"]
    assert tags(registry) == []
    push_image(registry, "again", "v2")
    registry.fold_waiting()
    assert listed(registry) == [NAME]
    assert last_record(registry) == history[0].sequence + 1
    pull(registry, "v2")
    assert [*read_index(registry).tags()] == ["v2"]


def test_a_collection_ends_the_hiding_of_what_is_in_use_again(world: World, registry: Registry) -> None:
    """Each call of a list looks at these one by one."""
    empty_used(world, registry)
    pass_grace(world, registry)
    push_image(registry, "again", "v2")
    registry.fold_waiting()
    run(registry, dry=True)
    assert len(used_again(registry)) == 1
    run(registry)
    assert (used_again(registry), listed(registry)) == ([], [NAME])


@pytest.mark.parametrize("kind", SHARED)
def test_of_a_repository_that_was_never_written_nothing_stays(world: World, registry: Registry) -> None:
    empty_unused(world, registry)
    pass_grace(world, registry)
    assert not has_row(registry)
    with pytest.raises(NameUnknown):
        tags(registry)
    with pytest.raises(NameUnknown):
        registry.change_history.page(NAME, count=10)
    for process in (registry, world.registry(**TIMES)):
        push_image(process, "again", "v1")
        process.fold_waiting()
        pull(process, "v1")
        assert listed(process) == [NAME]


@pytest.mark.parametrize("kind", ["local"])
def test_on_disk_the_layout_of_such_a_repository_stays(world: World, registry: Registry) -> None:
    empty_unused(world, registry)
    before = stored(registry)
    pass_grace(world, registry)
    assert listed(registry) == []
    assert stored(registry) == before
    assert not read_index(registry).manifests()
    push_image(registry, "again", "v1")
    registry.fold_waiting()
    assert listed(registry) == [NAME]


def test_a_repository_that_was_used_between_two_runs_has_its_time_anew(world: World, registry: Registry) -> None:
    empty_unused(world, registry)
    run(registry)
    world.clock.now += GRACE - 1
    digest = push_blob(registry, b"used in between")
    registry.blobs.delete(NAME, digest)
    world.clock.now += 2
    assert repositories_of(run(registry)) == []
    world.clock.now += GRACE + 1
    assert [name for name, _ in repositories_of(run(registry))] == [NAME]


def test_what_can_be_restored_keeps_its_repository(world: World, registry: Registry) -> None:
    image = push_image(registry, "one", "v1")
    registry.fold_waiting()
    registry.manifests.delete(NAME, image.digest, actor=ACTOR)
    settle(registry)
    world.clock.now += WINDOW - 1
    settle(registry)
    assert listed(registry) == [NAME]
    registry.restoration.last(NAME, actor=ACTOR)
    registry.fold_waiting()
    pull(registry, str(image.digest))


def test_an_upload_keeps_it_however_long_nothing_came(world: World, registry: Registry) -> None:
    empty_unused(world, registry)
    run(registry)
    world.clock.now += GRACE + 1
    session = "0e7c1a66-5d5e-4c7c-8a6b-0f5b7d6f8a11"
    row = SessionRow(session, NAME, 0, "sha256", None, "", None, world.clock.now - 50_000)
    with registry.backends.database.transaction() as connection:
        upload_sessions.add(connection, row, now=world.clock.now - 50_000)
    report = run(registry)
    assert (repositories_of(report), report.ledger.kept[Kept.UPLOADING]) == ([], 1)
    with registry.backends.database.transaction() as connection:
        upload_sessions.remove(connection, session)
    assert [name for name, _ in repositories_of(run(registry))] == [NAME]


def test_a_repository_of_which_not_everything_is_known_stays(world: World, registry: Registry) -> None:
    empty_used(world, registry)
    run(registry)
    world.clock.now += GRACE + 1
    report = run(registry, unsafe={NAME: "it cannot be read"})
    assert (repositories_of(report), report.ledger.kept[Kept.UNKNOWN]) == ([], 1)
    assert listed(registry) == [NAME]


def test_a_change_that_is_not_folded_keeps_it(world: World, registry: Registry) -> None:
    push_manifest(registry, NAMES_NOTHING, "v1")
    registry.fold_waiting()
    registry.manifests.delete(NAME, registry.manifests.find(NAME, "v1").digest, actor=ACTOR)
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
    assert row is not None
    assert row.folded_sequence < row.sequence
    world.clock.now += WINDOW + 1
    report = attempt(registry)
    assert [each for each in report.waiting if each.kind is Kind.REPOSITORY] == []


def test_a_dry_run_says_what_the_run_then_does(world: World, registry: Registry) -> None:
    """Check 11 of lifecycle.md, section 7, for empty repositories."""
    push_image(registry, "kept", "v1", name="team")
    push_blob(registry, b"a push that was given up", "team/unused")
    empty_used(world, registry, "team/used", "team/used/below")
    run(registry)
    world.clock.now += GRACE + 1
    before = stored(registry), listed(registry)
    dry = run(registry, dry=True)
    assert (stored(registry), listed(registry)) == before
    real = run(registry)
    assert len(repositories_of(real)) == 3
    assert dry.removed == real.removed
    assert (dry.ledger.objects, dry.ledger.bytes) == (real.ledger.objects, real.ledger.bytes) == (0, 0)
    assert dry.waiting == real.waiting
    assert listed(registry) == ["team"]


def test_usage_and_quotas_count_nothing_of_it(world: World) -> None:
    registry = world.registry(**TIMES, quotas=Quotas({}))
    empty_used(world, registry)
    push_image(registry, "kept", "v1", name="team/other")
    registry.fold_waiting()
    pass_grace(world, registry)
    usage = RangeUsage(registry.backends)
    assert [*usage.names(ALL)] == ["team/other"]
    assert usage.measure(ALL).logical > 0


def test_a_lost_database_has_it_again_with_its_numbers(world: World, registry: Registry) -> None:
    empty_used(world, registry)
    pass_grace(world, registry)
    last = last_record(registry)
    new = world.registry(url=world.another(), **TIMES)
    rebuild_registry(new)
    assert listed(new) == [NAME], "nothing says since when it is empty"
    pass_grace(world, new)
    assert listed(new) == []
    push_image(new, "again", "v1")
    new.fold_waiting()
    assert last_record(new) == last + 1
    pull(new, "v1")


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_is_older_than_a_push_finds_that_push(world: World, registry: Registry) -> None:
    """The copy still has the repository as one that was never written."""
    empty_unused(world, registry)
    run(registry)
    world.close()
    path = Path(world.url.removeprefix("sqlite:///"))
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    pusher = world.registry(**TIMES)
    push_image(pusher, "one", "v1")
    pusher.fold_waiting()
    older = world.registry(url=f"sqlite:///{copy}", **TIMES)
    world.clock.now += GRACE + 1
    run(older)
    pull(older, "v1")
    assert listed(older) == [NAME]


@pytest.mark.parametrize("kind", ["local"])
def test_what_another_tool_places_brings_it_back(world: World, registry: Registry) -> None:
    empty_used(world, registry)
    push_image(registry, "source", "v1", name="team/source")
    registry.fold_waiting()
    pass_grace(world, registry)
    assert listed(registry) == ["team/source"]
    driver, layout = registry.backends.driver, registry.backends.layout
    image = make_image("source")
    for digest in (image.manifest.digest, image.config.digest, image.layer.digest):
        key = layout.blob("team/source", Digest.parse(digest))
        driver.link(key, key.replace("team/source", NAME))
    driver.write(layout.index(NAME), driver.read(layout.index("team/source"), max_bytes=1 << 20)[0])
    other = world.registry(**TIMES)
    pull(other, "v1")
    assert listed(other) == [NAME, "team/source"]
