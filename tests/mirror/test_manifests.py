"""A mirror serves what it has, asks in time, and takes from no failure of its upstream that something is gone.

These are checks 14, 15 and 16 of mirrors, over every kind of storage.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from registry.config.access_sections import ImmutableSettings
from registry.database import blobs, leases
from registry.images.records import withholding
from registry.maintenance.rebuild import rebuild_registry
from registry.mirror.arrivals import LEASE
from registry.mirror.mirrored_manifest import FOR_EVER
from registry.mirror.patient_upstream import UpstreamGivenUp
from registry.oci.errors import (
    BadGateway,
    GatewayTimeout,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    TooManyRequests,
    Unavailable,
)
from registry.storage.errors import StorageError
from registry.upstream.errors import (
    AddressRefused,
    AnswerInvalid,
    TokenUnavailable,
    UpstreamDenied,
    UpstreamError,
    UpstreamSilent,
    UpstreamStatus,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from tests.mirror.scripted import HERE, Mirror, ScriptedRemote, open_mirror
from tests.support.payloads import Blob, image, index
from tests.support.registry_world import World, make_image, tags

ONE, TWO = make_image("one").manifest, make_image("two").manifest
LIST = index([ONE, TWO])

FAULTS: dict[str, tuple[UpstreamError, type[RegistryError]]] = {
    "network": (UpstreamUnavailable("it does not accept a connection"), BadGateway),
    "hang": (UpstreamSilent("it was silent for too long"), GatewayTimeout),
    "limit": (UpstreamThrottled("it wants fewer requests", 7.0), TooManyRequests),
    "limit without an end": (UpstreamThrottled("it wants fewer requests", None), TooManyRequests),
    "limit of the realm": (TokenUnavailable("the realm wants fewer requests", 7.0), TooManyRequests),
    "realm": (TokenUnavailable("the realm refuses the password"), BadGateway),
    "given up": (UpstreamGivenUp("it has not answered 3 times", 7.0), Unavailable),
    "denied": (UpstreamDenied("it denies it: status 403"), ManifestUnknown),
    "address": (AddressRefused("10.0.0.1 is private"), BadGateway),
    "invalid": (AnswerInvalid("the answer is encoded"), BadGateway),
    "status": (UpstreamStatus("it does not give it: status 418", 418), BadGateway),
}
faults = pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)


def set_fault(remote: ScriptedRemote, fault: UpstreamError | None) -> None:
    remote.fault = fault


# ---- first pulls


def test_a_first_pull_stores_the_manifest_before_it_is_served(
    mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    remote.push(LIST, "v1")
    found = mirror.find()
    assert found.headers() == {"X-Artifact-Source": "remote", "Age": "0"}
    assert remote.methods() == ["GET"]
    for each in (mirror, second):
        again = each.find()
        assert (again.source, again.is_stale, again.found.media_type) == ("cache", False, LIST.media_type)
        assert each.registry.manifests.read(again.found) == LIST.data
        assert 0 < again.fresh_for <= 60
        assert tags(each.registry, HERE) == ["v1"]
    assert remote.methods() == []


def test_the_record_of_a_tag_says_that_a_mirror_has_moved_it(mirror: Mirror, remote: ScriptedRemote) -> None:
    remote.push(ONE, "v1")
    mirror.find()
    mirror.registry.fold_waiting()
    (record,) = mirror.registry.folding._journal.history(HERE, 0, 100)
    assert (record.operation, record.actor, record.cause, record.tags) == ("put", "mirror", "mirror", ("v1",))


def test_a_digest_is_brought_once_and_never_asked_for_again(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE)
    found = mirror.find(digest)
    assert (found.source, found.age, found.fresh_for) == ("remote", None, FOR_EVER)
    remote.fault = UpstreamUnavailable("it is away")
    world.clock.now += 1e8
    for each in (mirror, second):
        again = each.find(digest)
        assert again.headers() == {"X-Artifact-Source": "cache"}
        assert each.registry.manifests.read(again.found) == ONE.data
    assert remote.methods() == ["GET"]
    assert tags(mirror.registry, HERE) == []


def test_children_of_an_index_are_brought_when_they_are_asked_for(mirror: Mirror, remote: ScriptedRemote) -> None:
    for manifest in (ONE, TWO, LIST):
        remote.push(manifest)
    remote.push(LIST, "v1")
    mirror.find()
    assert [asked.reference for asked in remote.asked] == ["v1"]
    mirror.find(ONE.digest)
    assert [asked.reference for asked in remote.asked] == ["v1", ONE.digest]


def test_a_manifest_with_another_algorithm_keeps_its_digest(mirror: Mirror, remote: ScriptedRemote) -> None:
    made = image(Blob(b"config"), [Blob(b"layer")], algorithm="sha512")
    remote.push(made, "v1")
    assert str(mirror.find().found.digest) == made.digest
    assert str(mirror.find(made.digest).found.digest) == made.digest


# ---- tags in time


def test_a_tag_is_asked_for_after_its_time_and_counts_from_then_again(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE, "v1")
    mirror.find()
    remote.methods()
    world.clock.now += 59
    assert second.find().headers()["Age"] == "59"
    assert remote.methods() == []
    world.clock.now += 2
    assert second.pull() == (digest, False)
    assert remote.methods() == ["HEAD"]
    world.clock.now += 30
    assert mirror.find().headers() == {"X-Artifact-Source": "cache", "Age": "30"}
    assert remote.methods() == []


def test_without_a_time_each_pull_asks(world: World, remote: ScriptedRemote) -> None:
    mirror = open_mirror(world, remote, ttl=0)
    digest = remote.push(ONE, "v1")
    assert [mirror.pull() for _ in range(3)] == [(digest, False)] * 3
    assert remote.methods() == ["GET", "HEAD", "HEAD"]


def test_a_tag_that_has_moved_upstream_moves_here_and_back_without_another_download(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    first, other = remote.push(ONE, "v1"), remote.push(TWO)
    mirror.find()
    remote.push(TWO, "v1")
    assert second.pull() == (first, False)
    world.clock.now += 61
    assert second.pull() == (other, False)
    assert mirror.pull() == (other, False)
    assert remote.methods() == ["GET", "HEAD", "GET"]
    remote.push(ONE, "v1")
    world.clock.now += 61
    assert mirror.pull() == (first, False)
    assert remote.methods() == ["HEAD"]
    for each in (mirror, second):
        assert each.registry.manifests.find(HERE, "v1").digest == first


@pytest.mark.parametrize("has_etags", [True, False])
def test_an_upstream_whose_head_says_no_digest_is_asked_by_a_conditional_get(
    world: World, mirror: Mirror, remote: ScriptedRemote, has_etags: bool
) -> None:
    remote.says_digest, remote.has_etags = False, has_etags
    first, other = remote.push(ONE, "v1"), remote.push(TWO)
    mirror.find()
    world.clock.now += 61
    assert mirror.pull() == (first, False)
    assert mirror.pull() == (first, False)
    assert remote.asked[-1].etag == (f'"{first[-8:]}"' if has_etags else None)
    assert remote.methods() == ["GET", "HEAD", "GET"]
    remote.push(TWO, "v1")
    world.clock.now += 61
    assert mirror.pull() == (other, False)


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("keys", [{"immutable_tags": ["v*"]}, {}], ids=["of the mirror", "of the access rules"])
def test_an_immutable_tag_is_never_asked_for_again(world: World, remote: ScriptedRemote, keys: dict[str, Any]) -> None:
    mirror = open_mirror(world, remote, **keys)
    if not keys:
        rule = ImmutableSettings(repositories=("docker.io/**",), tags=("v*",))
        mirror.registry.backends.policy.immutable.take([rule])
    first = remote.push(ONE, "v1")
    mirror.find()
    remote.push(TWO, "v1")
    world.clock.now += 1e7
    found = mirror.find()
    assert (found.found.digest, found.is_stale, found.fresh_for) == (first, False, FOR_EVER)
    assert remote.methods() == ["GET"]


# ---- failures


@faults
def test_a_tag_that_is_here_is_served_whatever_the_upstream_does(
    world: World,
    mirror: Mirror,
    second: Mirror,
    remote: ScriptedRemote,
    fault: UpstreamError,
    error: type[RegistryError],
) -> None:
    assert error
    digest = remote.push(ONE, "v1")
    mirror.find()
    world.clock.now += 100
    set_fault(remote, fault)
    found = mirror.find()
    assert found.found.digest == digest
    assert found.headers() == {"X-Artifact-Source": "cache", "Age": "100", "Warning": '110 - "Response is Stale"'}
    assert found.fresh_for == 0
    assert remote.methods() == ["GET", "HEAD"]
    assert second.pull() == (digest, True)
    assert remote.methods() == [], "not before the pause is over"
    world.clock.now += (getattr(fault, "seconds", None) or 2) + 1
    assert second.pull() == (digest, True)
    assert remote.methods() == ["HEAD"]
    set_fault(remote, None)
    remote.push(TWO, "v1")
    world.clock.now += 10
    assert mirror.pull() == (TWO.digest, False)


@faults
def test_what_is_not_here_is_an_error_that_names_the_mirror_and_is_not_remembered(
    mirror: Mirror, second: Mirror, remote: ScriptedRemote, fault: UpstreamError, error: type[RegistryError]
) -> None:
    remote.push(ONE, "v1")
    set_fault(remote, fault)
    for each, reference in ((mirror, "v1"), (second, "v1"), (mirror, ONE.digest)):
        with pytest.raises(error, match="mirror hub: ") as raised:
            each.find(reference)
        if error in (TooManyRequests, Unavailable):
            assert raised.value.headers["Retry-After"] == ("60" if fault.seconds is None else "7")  # type: ignore[attr-defined]
    assert remote.methods() == ["GET"] * 3
    set_fault(remote, None)
    assert second.pull() == (ONE.digest, False)


@pytest.mark.parametrize("kind", ["memory"])
def test_a_refusal_is_no_absence_where_content_came_before(mirror: Mirror, remote: ScriptedRemote) -> None:
    remote.push(ONE, "v1")
    mirror.find()
    remote.fault = UpstreamDenied("it denies it: status 401")
    with pytest.raises(BadGateway, match="mirror hub: it denies it"):
        mirror.find("v2")


@pytest.mark.parametrize("kind", ["memory"])
def test_requests_that_fail_come_more_and_more_seldom_down_to_one_in_five_minutes(
    world: World, mirror: Mirror, remote: ScriptedRemote
) -> None:
    remote.push(ONE, "v1")
    mirror.find()
    remote.fault = UpstreamUnavailable("it is away")
    world.clock.now += 61
    remote.methods()
    begun = world.clock.now
    moments = []
    while world.clock.now < begun + 3600:
        mirror.pull()
        if remote.methods():
            moments.append(world.clock.now - begun)
        world.clock.now += 0.5
    gaps = [round(later - earlier) for earlier, later in pairwise(moments)]
    assert gaps[:8] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert set(gaps[9:]) <= {300, 301}


@pytest.mark.parametrize("kind", ["memory"])
@faults
def test_a_tag_that_could_not_be_checked_for_too_long_is_not_served(
    world: World, remote: ScriptedRemote, fault: UpstreamError, error: type[RegistryError]
) -> None:
    mirror = open_mirror(world, remote, max_stale=3600)
    digest = remote.push(ONE, "v1")
    mirror.find()
    set_fault(remote, fault)
    world.clock.now += 3599
    assert mirror.pull() == (digest, True)
    world.clock.now += 300
    expected = BadGateway if isinstance(fault, UpstreamDenied) else error
    with pytest.raises(expected, match="mirror hub: "):
        mirror.find()
    with pytest.raises(Unavailable, match="max_stale"):
        mirror.find()
    assert mirror.find(digest).found.digest == digest


# ---- absence


def test_an_absence_is_remembered_for_a_while_by_all_processes(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    for reference in ("v1", ONE.digest):
        for each in (mirror, second, mirror):
            with pytest.raises(ManifestUnknown, match="mirror hub: the upstream has no manifest"):
                each.find(reference)
        assert remote.methods() == ["GET"]
    remote.push(ONE, "v1")
    world.clock.now += 61
    assert second.pull() == (ONE.digest, False)
    assert mirror.pull() == (ONE.digest, False)


def test_an_absence_takes_nothing_away_that_is_here(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE, "v1")
    mirror.find()
    remote.tags.clear()
    remote.manifests.clear()
    world.clock.now += 100
    for each in (mirror, second, mirror):
        found = each.find()
        assert (found.found.digest, found.headers()["Age"], found.is_stale) == (digest, "100", True)
    assert remote.methods() == ["GET", "HEAD"], "and it is asked for again after ttl"
    world.clock.now += 61
    assert second.pull() == (digest, True)
    assert remote.methods() == ["HEAD"]
    assert mirror.find(digest).found.digest == digest
    remote.push(ONE, "v1")
    world.clock.now += 61
    assert second.pull() == (digest, False)


def test_a_tag_that_follows_its_upstream_goes_and_its_manifest_stays(world: World, remote: ScriptedRemote) -> None:
    mirror, second = (open_mirror(world, remote, on_delete="follow") for _ in range(2))
    digest = remote.push(ONE, "v1", "v2")
    mirror.find()
    mirror.find("v2")
    del remote.tags["v1"]
    world.clock.now += 61
    remote.methods()
    for each in (second, mirror):
        with pytest.raises(ManifestUnknown, match="mirror hub: the upstream has no manifest v1"):
            each.find()
    assert remote.methods() == ["HEAD"]
    assert tags(mirror.registry, HERE) == ["v2"]
    assert second.find(digest).found.digest == digest
    mirror.registry.fold_waiting()
    *_, last = mirror.registry.folding._journal.history(HERE, 0, 100)
    assert (last.operation, last.tags, last.actor, last.cause) == ("untag", ("v1",), "mirror", "mirror")
    remote.push(TWO, "v1")
    world.clock.now += 61
    assert mirror.pull() == (TWO.digest, False)


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("problem", [Unavailable(), StorageError("it is full")], ids=str)
def test_a_tag_that_cannot_go_now_is_served_and_goes_later(
    world: World, remote: ScriptedRemote, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    mirror = open_mirror(world, remote, on_delete="follow")
    digest = remote.push(ONE, "v1")
    mirror.find()
    remote.tags.clear()
    world.clock.now += 61

    def expire(*_arguments: object, **_keys: object) -> None:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(mirror.registry.manifests, "expire", expire)
        assert mirror.pull() == (digest, True)
    assert mirror.pull() == (digest, True)
    world.clock.now += 61
    with pytest.raises(ManifestUnknown):
        mirror.find()


# ---- what is not asked for


@pytest.mark.parametrize("kind", ["memory"])
def test_a_mirror_that_is_offline_serves_what_it_has_and_asks_for_nothing(world: World, remote: ScriptedRemote) -> None:
    digest = remote.push(ONE, "v1", "v2")
    open_mirror(world, remote).find()
    remote.methods()
    mirror = open_mirror(world, remote, offline=True, max_stale=60)
    world.clock.now += 1e6
    assert mirror.pull() == (digest, True)
    assert mirror.find(digest).found.digest == digest
    for reference in ("v2", TWO.digest):
        with pytest.raises(Unavailable, match="mirror hub is offline"):
            mirror.find(reference)
    assert remote.methods() == []


@pytest.mark.parametrize("kind", ["memory"])
def test_repositories_that_the_settings_do_not_name_are_neither_served_nor_asked_for(
    world: World, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE, "v1")
    open_mirror(world, remote).find()
    remote.methods()
    mirror = open_mirror(world, remote, repositories=["grafana/**"])
    for reference in ("v1", digest):
        with pytest.raises(NameUnknown, match="mirror hub: its settings"):
            mirror.find(reference)
        with pytest.raises(NameUnknown, match="mirror hub: its settings"):
            mirror.manifests.find_here(mirror.name(), reference)
    assert remote.methods() == []


@pytest.mark.parametrize("kind", ["memory"])
def test_what_can_be_served_without_the_upstream_is_told_apart(
    world: World, mirror: Mirror, remote: ScriptedRemote
) -> None:
    def here(reference: str) -> object:
        found = mirror.manifests.find_here(mirror.name(), reference)
        return None if found is None else (found.found.digest, found.is_stale)

    digest = remote.push(ONE, "v1")
    assert here("v1") is None
    assert here(digest) is None
    mirror.find()
    assert here("v1") == here(digest) == (digest, False)
    world.clock.now += 61
    assert here("v1") is None
    remote.fault = UpstreamUnavailable("it is away")
    mirror.find()
    assert here("v1") == (digest, True)


@pytest.mark.parametrize("kind", ["memory"])
def test_what_clients_asked_for_is_counted_by_where_it_came_from(world: World, remote: ScriptedRemote) -> None:
    counted: list[tuple[str, str]] = []
    metrics = SimpleNamespace(add_manifest=lambda *labels: counted.append(labels))
    mirror = open_mirror(world, remote, metrics=metrics)
    remote.push(ONE, "v1")
    mirror.find()
    mirror.find()
    with pytest.raises(ManifestUnknown):
        mirror.find("v2")
    remote.fault = UpstreamUnavailable("it is away")
    world.clock.now += 61
    mirror.find()
    with pytest.raises(BadGateway):
        mirror.find("v2")
    assert [result for _, result in counted] == ["remote", "cache", "absent", "stale", "error"]
    assert {name for name, _ in counted} == {"hub"}


# ---- several at once


def at_once(calls: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


@pytest.mark.parametrize("reference", ["v1", ONE.digest], ids=["tag", "digest"])
def test_many_callers_of_two_processes_are_one_request(
    mirror: Mirror, second: Mirror, remote: ScriptedRemote, reference: str
) -> None:
    remote.push(ONE, "v1")
    barrier = threading.Barrier(16)

    def pull(each: Mirror) -> str:
        barrier.wait(60)
        return str(each.find(reference).found.digest)

    assert at_once([partial(pull, each) for each in (mirror, second) * 8]) == [ONE.digest] * 16
    assert remote.methods() == ["GET"]


def test_many_callers_of_two_processes_ask_once_for_a_tag_that_is_due(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE, "v1")
    mirror.find()
    second.find()
    world.clock.now += 61
    remote.methods()
    barrier = threading.Barrier(16)

    def pull(each: Mirror) -> str:
        barrier.wait(60)
        return each.pull()[0]

    assert at_once([partial(pull, each) for each in (mirror, second) * 8]) == [digest] * 16
    assert remote.methods() == ["HEAD"]


def test_callers_of_one_process_share_the_error_of_their_request(mirror: Mirror, remote: ScriptedRemote) -> None:
    waiting = threading.Barrier(9)
    remote.fault = UpstreamUnavailable("it is away")

    def hold() -> None:
        waiting.wait(60)
        threading.Event().wait(0.2)

    remote.during = hold

    def pull() -> object:
        if remote.asked:
            waiting.wait(60)
        with pytest.raises(BadGateway):
            mirror.find()
        return None

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(pull)
        while not remote.asked:
            threading.Event().wait(0.001)
        rest = [pool.submit(pull) for _ in range(8)]
        assert [each.result(60) for each in (first, *rest)] == [None] * 9
    assert len(remote.asked) < 9


def test_a_caller_that_finds_another_one_asking_is_served_at_once(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    first, other = remote.push(ONE, "v1"), remote.push(TWO)
    mirror.find()
    world.clock.now += 61
    remote.push(TWO, "v1")
    seen: list[tuple[str, bool]] = []
    remote.during = lambda: seen.append(second.pull())
    assert mirror.pull() == (other, False)
    assert seen == [(first, True)]
    assert second.pull() == (other, False)


@pytest.mark.parametrize("way", ["confirms", "moves", "misses", "fails"])
def test_a_late_answer_changes_nothing_that_a_newer_one_said(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote, tmp_path: Path, way: str
) -> None:
    """Check 15 of mirrors: the slow process has its answer, hangs until another may ask, and wakes up."""
    first, other = remote.push(ONE, "v1"), remote.push(TWO)
    mirror.find()
    world.clock.now += 61
    if way == "moves":
        remote.push(make_image("three").manifest, "v1")
    elif way == "misses":
        del remote.tags["v1"]
    elif way == "fails":
        remote.fault = UpstreamUnavailable("it is away")

    def overtake() -> None:
        remote.fault = None
        remote.push(TWO, "v1")
        world.clock.now += 31
        assert second.pull() == (other, False)

    remote.during = overtake
    assert mirror.pull() == (other, way == "fails") or (way == "fails" and mirror.pull() == (other, False))
    assert first != other
    for each in (mirror, second):
        assert each.pull() == (other, False)
    mirror.registry.fold_waiting()
    rebuilt = world.registry(url=f"sqlite:///{tmp_path / 'rebuilt.db'}", mirrored=frozenset({"docker.io"}))
    assert rebuild_registry(rebuilt).problems == []
    assert rebuilt.manifests.find(HERE, "v1").digest == other


# ---- what ends in the middle


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_the_request_of_a_killed_process_is_made_by_another_one(
    world: World, mirror: Mirror, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE, "v1")
    with world.registry().backends.database.transaction() as connection:
        assert leases.take(connection, f"mirror:hub:{HERE}:v1", "killed", seconds=LEASE)
    assert mirror.pull() == (digest, False)
    assert LEASE - 1 < sum(mirror.waits) < LEASE + 1
    with world.registry().backends.database.autocommit() as connection:
        assert leases.find(connection, f"mirror:hub:{HERE}:v1").get() is None


@pytest.mark.parametrize("kind", ["memory"])
def test_a_caller_waits_for_a_process_that_hangs_no_longer_than_a_minute(
    world: World, mirror: Mirror, remote: ScriptedRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.mirror.arrivals.WAIT", -1.0)
    with world.registry().backends.database.transaction() as connection:
        assert leases.take(connection, f"mirror:hub:{HERE}:v1", "hangs", seconds=LEASE)
    with pytest.raises(GatewayTimeout, match="mirror hub: another process"):
        mirror.find()
    assert remote.methods() == []


class Killed(BaseException):
    """The end of a process, which no handler of errors sees."""


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_process_that_is_killed_while_it_asks_is_followed_by_another_one(
    world: World, mirror: Mirror, second: Mirror, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE, "v1")
    mirror.find()
    world.clock.now += 61

    def kill() -> None:
        raise Killed

    remote.during = kill
    with pytest.raises(Killed):
        mirror.find()
    remote.methods()
    assert second.pull() == (digest, True)
    assert remote.methods() == []
    world.clock.now += 31
    assert second.pull() == (digest, False)
    assert remote.methods() == ["HEAD"]


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("problem", [Unavailable("read-only"), StorageError("it is full")], ids=str)
def test_a_manifest_that_cannot_be_stored_moves_no_tag(
    world: World, mirror: Mirror, remote: ScriptedRemote, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    first, other = remote.push(ONE, "v1"), remote.push(TWO)
    mirror.find()
    remote.push(TWO, "v1")
    world.clock.now += 61

    def put(*_arguments: object, **_keys: object) -> None:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(mirror.registry.manifests, "put_mirrored", put)
        assert mirror.pull() == (first, True)
        with pytest.raises(type(problem)):
            mirror.find(other)
    world.clock.now += 2
    assert mirror.pull() == (other, False)


def test_a_lost_database_costs_one_request_for_each_tag_and_nothing_else(
    world: World, mirror: Mirror, remote: ScriptedRemote
) -> None:
    digest = remote.push(ONE, "v1")
    mirror.find()
    mirror.registry.fold_waiting()
    world.clock.now += 500
    remote.methods()
    mirror = open_mirror(world, remote, url=world.another())
    remote.fault = UpstreamUnavailable("it is away")
    found = mirror.find()
    assert (found.found.digest, found.is_stale) == (digest, True)
    assert 400 < (found.age or 0) <= 502
    remote.fault = None
    world.clock.now += 2
    assert mirror.pull() == (digest, False)
    assert remote.methods() == ["HEAD", "HEAD"]
    assert mirror.find(digest).source == "cache"


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_manifest_whose_bytes_are_lost_is_brought_again(world: World, mirror: Mirror, remote: ScriptedRemote) -> None:
    digest = remote.push(ONE, "v1")
    found = mirror.find()
    backends = mirror.registry.backends
    backends.driver.delete([found.found.key])
    with backends.database.transaction() as connection:
        row = blobs.find(connection, digest).get()
        assert row is not None
        blobs.set_state(connection, row.id, blobs.MISSING)
    remote.methods()
    world.clock.now += 1
    again = mirror.find()
    assert (again.source, again.found.digest) == ("remote", digest)
    assert mirror.registry.manifests.read(again.found) == ONE.data
    assert remote.methods() == ["GET"]


@pytest.mark.parametrize("kind", ["memory"])
def test_a_manifest_that_names_more_than_may_be_missing_is_not_kept(
    mirror: Mirror, remote: ScriptedRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withholding, "MOST", 1000)
    layers = [Blob(f"layer {number}".encode()) for number in range(1000)]
    remote.push(image(Blob(b"config"), layers), "v1")
    with pytest.raises(BadGateway, match="mirror hub: the repository would lack 1001"):
        mirror.find()


@pytest.mark.parametrize("kind", ["memory"])
def test_a_clock_that_was_set_back_costs_one_request(world: World, mirror: Mirror, remote: ScriptedRemote) -> None:
    digest = remote.push(ONE, "v1")
    mirror.find()
    remote.methods()
    world.clock.now -= 1e6
    assert mirror.pull() == (digest, False)
    assert mirror.pull() == (digest, False)
    assert remote.methods() == ["HEAD"]
