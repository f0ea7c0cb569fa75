"""Runs of retention over a registry: what goes, what stays, and what they leave alone."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from registry.config.access_sections import ImmutableSettings
from registry.config.retention_sections import RetentionRule, RetentionSettings
from registry.database import repositories
from registry.images.backends import Backends
from registry.images.records.journal import Journal
from registry.images.registry import Registry
from registry.maintenance.rebuild import rebuild_registry
from registry.maintenance.retention import plan as plan_module
from registry.maintenance.retention import run as module
from registry.maintenance.retention.plan import Judged, RepositoryPlan
from registry.maintenance.retention.report import Summary, entry_of
from registry.maintenance.retention.run import RetentionRun
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from tests.maintenance.retention.cases import DAY, rule
from tests.support.kills import Doom, DyingDatabase, DyingDriver, Killed
from tests.support.payloads import Blob, image, index
from tests.support.registry_world import NAME, World, push_blob, push_image, push_manifest, read_index, tags

NEWEST_1 = rule({"any": {"newest": 1}})
NOTHING = rule({"any": {"pushed_within": 0}})


def retain(
    registry: Registry, *rules: RetentionRule, applies: bool = True, forced: Collection[str] = (), **more: Any
) -> Summary:
    settings = RetentionSettings(rules=rules, **more)
    return RetentionRun(registry, settings, applies=applies, forced=forced).finish()


def planned(run: RetentionRun) -> tuple[RepositoryPlan, list[Judged]]:
    """The plan of the repository, and its first tags, of which none is removed yet."""
    [plan] = run.plans([NAME])
    return plan, run._planner.page(plan, after="", count=module.TAGS)


def push_days(world: World, registry: Registry, *names: str) -> list[Digest]:
    """Push an image a day, each with its tag; the last one a day ago."""
    digests = []
    for name in names:
        digests.append(push_image(registry, name, name).digest)
        world.clock.now += DAY
    return digests


def test_a_run_removes_the_tags_that_no_rule_keeps_and_their_manifests_stay(registry: Registry, world: World) -> None:
    old, new = push_days(world, registry, "old", "new")
    assert retain(registry, NEWEST_1) == Summary(1, kept=1, removed=1)
    assert tags(registry) == ["new"]
    for digest in (old, new):
        assert registry.manifests.find(NAME, digest).digest == digest
    assert retain(registry, NEWEST_1) == Summary(1, kept=1)


def test_the_record_names_the_actor_and_the_rule(registry: Registry, world: World) -> None:
    push_days(world, registry, "old", "new")
    retain(registry, rule({"any": {"newest": 1}}, name="the newest"))
    *_, record = Journal(registry.backends).history(NAME, 0, 3)
    assert (record.operation, record.actor, record.cause, record.tags) == ("untag", "retention", "the newest", ("old",))


def test_what_one_rule_removes_goes_in_one_record_and_each_tag_can_be_restored(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    made = push_days(world, registry, "a", "b", "x1", "x2", "x3", "x4", "x5")
    retain(registry, rule({"any": {"newest": 1}}, "x*", "others"), NOTHING, max_share=1)
    records = list(Journal(registry.backends).history(NAME, 7, 100))
    assert [(record.cause, record.tags) for record in records] == [
        ("rule", ("a", "b")),
        ("others", ("x1", "x2", "x3")),
        ("others", ("x4",)),
    ]
    assert records[1].old == dict(zip(records[1].tags, made[2:5], strict=True))
    registry.fold_waiting()
    assert list(read_index(registry).tags()) == tags(registry) == ["x5"]
    page = registry.change_history.page(NAME, "x2", count=10)
    assert [(record.operation, record.sequence) for record in page.records] == [("untag", 9), ("put", 4)]
    registry.restoration.tag(NAME, "x2", actor="tester")
    assert tags(registry) == ["x2", "x5"]
    assert registry.manifests.find(NAME, "x2").digest == made[3]


def test_a_tag_of_many_that_is_set_again_stays_and_the_rest_goes(registry: Registry, world: World) -> None:
    push_days(world, registry, "a", "b", "c")
    run = RetentionRun(registry, RetentionSettings(rules=(NOTHING,)), applies=True)
    plan, page = planned(run)
    push_image(registry, "b", "b")
    assert [each.decision.action for each in run._carry_out(plan, page)] == ["remove", "keep", "remove"]
    assert (tags(registry), plan.problem) == (["b"], None)


def test_without_apply_nothing_is_changed(registry: Registry, world: World) -> None:
    push_days(world, registry, "old", "new")
    with registry.backends.database.autocommit() as connection:
        before = repositories.find(connection, NAME).get()
    assert retain(registry, NEWEST_1, applies=False) == Summary(1, kept=1, removed=1)
    assert tags(registry) == ["new", "old"]
    with registry.backends.database.autocommit() as connection:
        assert repositories.find(connection, NAME).get() == before


def test_every_tag_has_an_entry(registry: Registry, world: World) -> None:
    config, layer = Blob(b"{}"), Blob(b"layer" * 100)
    for blob in (config, layer):
        push_blob(registry, blob.data)
    made = image(config, [layer])
    pushed_at = world.clock.now
    push_manifest(registry, made, "v1")
    registry.pulls.pulled(NAME, made.digest)
    registry.pulls.flush()
    run = RetentionRun(registry, RetentionSettings(rules=(rule("always", "v*", "releases"),)), applies=False)
    [entry] = [entry_of(*each) for each in run.judged([NAME])]
    assert entry.pop("pushed_at")[:19] == entry.pop("pulled_at")[:19]
    assert entry == {
        "repository": NAME,
        "tag": "v1",
        "digest": made.digest,
        "action": "keep",
        "rule": "releases",
        "because": "the rule keeps always",
        "bytes": len(made.data) + len(config.data) + len(layer.data),
    }
    assert pushed_at <= world.clock.now


def test_an_index_has_the_bytes_of_what_its_manifests_name(registry: Registry) -> None:
    images = [push_image(registry, text) for text in ("one", "two")]
    made = index([each.manifest for each in images])
    push_manifest(registry, made, "all")
    run = RetentionRun(registry, RetentionSettings(), applies=False)
    [entry] = [entry_of(*each) for each in run.judged([NAME])]
    parts = [len(part.data) for each in images for part in (each.manifest, each.config, each.layer)]
    assert entry["bytes"] == len(made.data) + sum(parts)


def test_a_tag_set_since_the_run_began_stays(registry: Registry, world: World) -> None:
    """Whether with another manifest or the same again."""
    push_days(world, registry, "a", "b", "c")
    run = RetentionRun(registry, RetentionSettings(rules=(NOTHING,)), applies=True)
    plan, page = planned(run)
    assert plan.removed == len(page) == 3
    push_image(registry, "other", "a")
    push_image(registry, "b", "b")
    done = run._carry_out(plan, page)
    assert tags(registry) == ["a", "b"]
    assert [each.decision.action for each in done] == ["keep", "keep", "remove"]
    assert retain(registry, NOTHING) == Summary(1, removed=2), "a later run judges them anew"


def test_a_tag_that_is_gone_meanwhile_is_no_problem(registry: Registry, world: World) -> None:
    push_days(world, registry, "a")
    run = RetentionRun(registry, RetentionSettings(rules=(NOTHING,)), applies=True)
    plan, page = planned(run)
    registry.manifests.untag(NAME, "a", actor="tester")
    done = run._carry_out(plan, page)
    assert (plan.problem, [each.decision.action for each in done]) == (None, ["keep"])


@pytest.mark.parametrize("delete", [True, False])
def test_immutable_tags_stay_also_those_that_callers_may_remove(world: World, delete: bool) -> None:
    registry = world.registry()
    push_days(world, registry, "v1", "x")
    immutable = ImmutableSettings(repositories=("**",), tags=("v*",), delete=delete)
    run = RetentionRun(registry, RetentionSettings(rules=(NOTHING,)), applies=True)
    plan, page = planned(run)
    registry.backends.policy.immutable.take([immutable])  # rules that came since the plan count too
    run._carry_out(plan, page)
    assert tags(registry) == ["v1"]
    assert retain(registry, NOTHING) == Summary(1, kept=1)


def test_what_clients_may_not_delete_a_rule_may(world: World) -> None:
    registry = world.registry(delete=False)
    push_days(world, registry, "a")
    assert retain(registry, NOTHING) == Summary(1, removed=1)
    assert tags(registry) == []


def test_a_rule_that_matches_everything_reports_and_changes_nothing(registry: Registry, world: World) -> None:
    """Check 22: unless its repository is named."""
    names = [f"v{number:02}" for number in range(12)]
    push_days(world, registry, *names)
    push_image(registry, "other", "a", name="few/app")
    world.clock.now += DAY
    for applies in (False, True):
        summary = retain(registry, NOTHING, applies=applies)
        assert (summary.removed, summary.left_alone) == (1, 1), "ten tags or fewer are no matter of shares"
        assert summary.problems == [
            f"{NAME}: 12 of 12 tags would go, more than the share that retention.max_share allows"
        ]
        assert tags(registry) == names
    assert retain(registry, NOTHING, forced=[NAME]) == Summary(2, removed=12)
    assert tags(registry) == []


@pytest.mark.parametrize(("share", "is_left"), [(0.9, True), (0.92, False), (1, False), (0, True)])
def test_the_share_is_of_all_tags_but_those_of_signatures(world: World, share: float, is_left: bool) -> None:
    registry = world.registry()
    signature = push_image(registry, "signature")
    for digest in push_days(world, registry, *(f"v{number:02}" for number in range(12))):
        push_manifest(registry, signature.manifest, digest.replace(":", "-", 1) + ".sig")
    world.clock.now += DAY
    summary = retain(registry, NEWEST_1, max_share=share)
    assert (summary.left_alone, summary.removed) == ((1, 0) if is_left else (0, 11))


def test_the_chain_of_the_newest_stays(registry: Registry, world: World) -> None:
    """Check 9, as far as tags go: signatures count in no rule, and never go by themselves."""
    for text in ("one", "two", "three"):
        pushed = push_image(registry, text, text)
        signature = image(Blob(b"{}"), [], subject=pushed.manifest, annotations={"of": text})
        push_blob(registry, b"{}")
        tag = pushed.digest.replace(":", "-", 1)
        push_manifest(registry, signature, f"{tag}.sig", tag)
        world.clock.now += DAY
    before = tags(registry)
    retain(registry, NEWEST_1)
    assert tags(registry) == sorted(set(before) - {"one", "two"})


def test_what_is_pulled_by_its_digest_keeps_its_tag_until_pulls_stop(registry: Registry, world: World) -> None:
    """Check 10, as far as tags go."""
    [digest] = push_days(world, registry, "pinned")
    registry.pulls.flush()
    pulled = rule({"any": {"pulled_within": "14d"}})
    for _ in range(10):
        world.clock.now += 7 * DAY
        registry.pulls.pulled(NAME, digest)
        registry.pulls.flush()
        assert retain(registry, pulled) == Summary(1, kept=1)
    world.clock.now += 14 * DAY
    assert retain(registry, pulled) == Summary(1, kept=1)
    world.clock.now += 60
    assert retain(registry, pulled) == Summary(1, removed=1)


def test_a_new_database_keeps_the_newest_by_push_and_none_for_want_of_pulls(world: World) -> None:
    """Check 16, what retention makes of a rebuild: times are those of the pushes, and pulls are counted anew."""
    before = world.registry()
    push_days(world, before, *(f"v{number:02}" for number in range(30)))
    before.fold_waiting()
    world.url = f"sqlite:///{world.root.parent / 'new.db'}"
    registry = world.registry()
    rebuild_registry(registry)
    registry.pulls.flush()
    newest = rule({"any": {"newest": 5}}, "v0*,v1*", "newest")
    pulled = rule({"any": {"pulled_within": "3d"}}, "v2*", "pulled")
    assert retain(registry, newest, pulled) == Summary(1, kept=15, removed=15)
    assert tags(registry) == [f"v{number}" for number in range(15, 30)]
    world.clock.now += 3 * DAY
    assert retain(registry, pulled) == Summary(1, kept=15)
    world.clock.now += 1
    assert retain(registry, pulled) == Summary(1, kept=5, removed=10)


def test_rows_that_were_made_anew_know_of_no_pull_before(registry: Registry, world: World) -> None:
    """As of a repository that was away while storage was read."""
    push_days(world, registry, "a")
    registry.fold_waiting()
    registry.pulls.flush()
    world.clock.now += 90 * DAY
    with registry.backends.database.autocommit() as connection:
        row = repositories.find(connection, NAME).get()
    assert row is not None
    registry.reconciliation.forget(row)
    other = world.registry()
    pulled = rule({"any": {"pulled_within": "14d"}})
    assert retain(other, pulled) == Summary(0), "its rows are gone"
    other.repositories.touch(NAME)
    assert retain(other, pulled) == Summary(1, kept=1)
    world.clock.now += 15 * DAY
    assert retain(other, pulled) == Summary(1, removed=1)


def test_a_repository_that_lacks_manifests_is_left_alone(registry: Registry, world: World) -> None:
    push_days(world, registry, "a")
    with registry.backends.database.transaction() as connection:
        row = repositories.find(connection, NAME).get()
        assert row is not None
        repositories.set_reconciled(
            connection, row.id, sequence=row.sequence, folded=row.folded_sequence, etag=row.etag, missing=2
        )
    summary = retain(registry, NOTHING)
    assert (summary.removed, summary.kept, summary.left_alone) == (0, 1, 1)
    assert summary.problems == [f"{NAME}: storage lacks 2 manifests that its index names"]
    assert tags(registry) == ["a"]


def test_a_repository_that_another_registry_has_written_is_left_alone(registry: Registry, world: World) -> None:
    push_days(world, registry, "a")
    with registry.backends.memory.of(NAME) as notes:
        notes.met_foreign = 1.0
    assert retain(registry, NOTHING).problems == [f"{NAME}: another registry has written its index"]
    assert retain(registry, rule("always")).problems == [], "nothing of it would go"


def test_a_repository_that_cannot_be_read_is_left_alone_and_the_next_one_is_not(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_days(world, registry, "a")
    push_image(registry, "b", "b", name="zzz/app")
    world.clock.now += DAY
    touch = registry.repositories.touch

    def failing(name: str) -> Any:
        if name == NAME:
            raise Unavailable("storage is away")
        return touch(name)

    with monkeypatch.context() as patch:
        patch.setattr(registry.repositories, "touch", failing)
        summary = retain(registry, NOTHING)
    assert (summary.problems, summary.removed) == ([f"{NAME}: storage is away"], 1)
    assert tags(registry) == ["a"]


def test_an_error_while_tags_go_leaves_the_rest_of_the_repository_and_the_next_run_goes_on(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_days(world, registry, "a", "b", "c")
    expire = registry.manifests.expire

    def failing(name: str, sequences: Mapping[str, int], **more: Any) -> Any:
        if "b" in sequences:
            raise Unavailable("storage is away")
        return expire(name, sequences, **more)

    with monkeypatch.context() as patch:
        patch.setattr(registry.manifests, "expire", failing)
        patch.setattr(module, "AT_ONCE", 1)
        summary = retain(registry, NOTHING)
    assert (summary.problems, summary.removed, summary.kept) == ([f"{NAME}: storage is away"], 1, 2)
    assert tags(registry) == ["b", "c"]
    assert retain(registry, NOTHING) == Summary(1, removed=2)


def test_two_runs_at_once_are_harmless(registry: Registry, world: World) -> None:
    push_days(world, registry, "a", "b")
    runs = [
        RetentionRun(each, RetentionSettings(rules=(NEWEST_1,)), applies=True) for each in (registry, world.registry())
    ]
    plans = [planned(run) for run in runs]
    for run, (plan, page) in zip(runs, plans, strict=True):
        run._carry_out(plan, page)
        assert plan.problem is None
    assert tags(registry) == ["b"]


def test_the_newest_tag_is_there_whenever_it_is_asked_for_while_runs_go_on(registry: Registry, world: World) -> None:
    other, is_done = world.registry(), Event()
    summaries: list[Summary] = []

    def retain_always() -> None:
        while not is_done.is_set():
            summaries.append(retain(other, NEWEST_1, forced=[NAME]))

    running = Thread(target=retain_always)
    running.start()
    try:
        for number in range(30):
            world.clock.now += 1
            name = f"v{number % 3}"
            pushed = push_image(registry, f"{number}", name)
            assert registry.manifests.find(NAME, name).digest == pushed.digest
    finally:
        is_done.set()
        running.join()
    assert [problem for summary in summaries for problem in summary.problems] == []
    retain(other, NEWEST_1)
    assert tags(registry) == ["v2"]
    assert registry.manifests.find(NAME, "v2").digest == pushed.digest


def test_names_are_read_in_pages(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    names = [f"n{number}/app" for number in range(5)]
    for name in names:
        push_image(registry, "a", "a", name=name)
    run = RetentionRun(registry, RetentionSettings(), applies=False)
    assert list(run.names()) == names
    assert list(run.names("n2/app")) == names[3:]
    assert [plan.repository for plan in run.plans(["absent", *names[:2]])] == names[:2]


def test_a_repository_without_a_rule_is_not_looked_for_on_storage(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_days(world, registry, "a")
    monkeypatch.setattr(registry.repositories, "touch", None)
    assert retain(registry, rule({"any": {"newest": 1}}, repositories="other/**")) == Summary(1, kept=1)


@pytest.mark.parametrize("at_once", [1, 100])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, at_once: int
) -> None:
    """What stays, stays whatever the step: each record is written or its change is completed by another process."""
    monkeypatch.setattr(module, "AT_ONCE", at_once)

    def killed(at: int | None) -> tuple[int, list[str], World]:
        world = World(tmp_path / str(at), kind)
        (tmp_path / str(at)).mkdir()
        push_days(world, world.registry(), "a", "b", "c")
        doom = Doom(at)
        database = DyingDatabase(world.url, doom, world.clocks())
        doomed = Registry(Backends(DyingDriver(world.driver(), doom), database, world.policy, clock=world.clock))
        with contextlib.suppress(Killed):
            retain(doomed, NEWEST_1)
        database.close()
        return doom.steps, tags(world.registry()), world

    steps, left, world = killed(None)
    assert left == ["c"]
    world.close()
    assert steps > 4
    for step in range(1, steps):
        _, left, world = killed(step)
        assert left in (["a", "b", "c"], ["c"], *([["b", "c"]] if at_once == 1 else []))
        registry = world.registry()
        world.clock.now += 1
        assert retain(registry, NEWEST_1).problems == []
        assert tags(registry) == ["c"]
        world.clock.now += 3600
        registry.fold_waiting()
        assert list(read_index(registry).tags()) == ["c"]
        world.close()


def test_each_tag_that_goes_is_told(registry: Registry, world: World) -> None:
    push_days(world, registry, "old", "new")
    told: list[tuple[str, str]] = []
    settings = RetentionSettings(rules=(NEWEST_1,))
    for applies in (False, True, True):
        RetentionRun(
            registry,
            settings,
            applies=applies,
            on_removed=lambda name, decision: told.append((name, decision.tagged.tag)),
        ).finish()
    assert told == [(NAME, "old")]


def test_what_is_set_between_the_look_at_all_tags_and_its_page_stays(registry: Registry, world: World) -> None:
    """Also with a manifest that was old then, or with one that nothing had a tag of."""
    push_days(world, registry, "a", "b", "c")
    run = RetentionRun(registry, RetentionSettings(rules=(NEWEST_1,)), applies=True)
    [plan] = run.plans([NAME])
    for text, tag in (("a", "x"), ("other", "b"), ("c", "late"), ("another", "new")):
        push_image(registry, text, tag)
    registry.manifests.untag(NAME, "c", actor="tester")
    decided = [each.decision for page in run.pages(plan) for each in page]
    assert {each.tagged.tag: each.action for each in decided} == {
        "a": "remove",
        **dict.fromkeys(["b", "late", "new", "x"], "keep"),
    }
    assert (tags(registry), plan.kept, plan.removed) == (["b", "late", "new", "x"], 4, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 100])
def test_decisions_are_the_same_whatever_a_page_holds(
    registry: Registry, world: World, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Also where one manifest has tags on several pages."""
    for day, manifests in enumerate(["ab", "a", "cd", "b", "e", "ca"]):
        for manifest in manifests:
            push_image(registry, manifest, f"{manifest}{day}")
            push_image(registry, manifest, f"x{manifest}{day}")
        world.clock.now += DAY
    rules = (rule({"all": {"newest": 3, "pushed_within": "5d"}}, "a*,c*,e*"), rule({"any": {"newest": 2}}, "*", "rest"))
    settings = RetentionSettings(rules=rules, max_share=1)
    expected = list(RetentionRun(registry, settings, applies=False).judged([NAME]))
    assert len(expected) == 18
    assert {each.decision.action for _, each in expected} == {"keep", "remove"}
    monkeypatch.setattr(module, "TAGS", count)
    monkeypatch.setattr(plan_module, "SURVEYED", count)
    for applies in (False, True):
        run = RetentionRun(registry, settings, applies=applies)
        assert list(run.judged([NAME])) == expected
        removed = [each.decision.tagged.tag for _, each in expected if each.decision.action == "remove"]
        assert run.summary == Summary(1, kept=18 - len(removed), removed=len(removed))
    assert tags(registry) == [each.decision.tagged.tag for _, each in expected if each.decision.action == "keep"]
