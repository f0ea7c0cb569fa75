"""Every read both ways: from memory and through the routes, with the same answer whatever happened in between."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from registry.clocks import boot_seconds
from registry.database.statement import Statement
from tests.api.service import Reply, Service, serving
from tests.support.payloads import Blob, Manifest, image, index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

REPO = "both/ways"
OTHER = "both/other"
CONFIG = Blob(b'{"both": "ways"}')
LAYER = Blob(b"small enough to be kept in memory" * 9)
LARGE = Blob(bytes(range(256)) * 300)
LOOSE = Blob(b"no manifest names this")
FIRST = image(CONFIG, [LAYER])
SECOND = image(CONFIG, [LAYER, LARGE], annotations={"second": "yes"})
WIDE = image(CONFIG, [LAYER], algorithm="sha512", annotations={"wide": "yes"})
BOTH = index([FIRST, SECOND])
SIGNATURE = image(CONFIG, [], subject=FIRST, artifact_type="application/vnd.test.signature", annotations={"by": "me"})
SBOM = image(CONFIG, [LAYER], subject=FIRST, artifact_type="application/vnd.test.sbom")
ABSENT = "sha256:" + "0" * 64
BLOBS = (CONFIG, LAYER, LARGE, LOOSE)
MANIFESTS = (FIRST, SECOND, WIDE, BOTH, SIGNATURE, SBOM)
TAGS = ("one", "two", "wide", "multi", "new", "absent")
REF_NAME = "org.opencontainers.image.ref.name"
OWN_HEADERS = {"x-request-id", "date"}


class Read(NamedTuple):
    """A request that changes nothing."""

    method: str
    target: str
    header: tuple[str, str] | None = None

    def of(self, service: Service) -> Reply:
        """The answer of one process."""
        return service.call(self.method, self.target, headers=dict([self.header]) if self.header else None)


def reads() -> list[Read]:
    """GET and HEAD of everything, plain and conditional, whole and in part."""
    conditions = [
        None,
        ("If-None-Match", f'"{FIRST.digest}"'),
        ("If-None-Match", f'"nothing", W/"{SECOND.digest}"'),
        ("If-None-Match", "*"),
    ]
    found = []
    for reference in (*TAGS, *(manifest.digest for manifest in MANIFESTS), ABSENT):
        target = f"/v2/{REPO}/manifests/{reference}"
        found += [Read(method, target, header) for method in ("GET", "HEAD") for header in conditions]
    for query in ("", "?n=2", "?n=100", "?last=one", "?n=0"):
        found += [Read(method, f"/v2/{REPO}/tags/list{query}") for method in ("GET", "HEAD")]
    for subject in (FIRST.digest, SECOND.digest, ABSENT):
        for query in ("", "?artifactType=application/vnd.test.sbom", "?n=1", "?n=100"):
            found += [Read(method, f"/v2/{REPO}/referrers/{subject}{query}") for method in ("GET", "HEAD")]
    for digest in (*(blob.digest for blob in BLOBS), FIRST.digest, ABSENT):
        target = f"/v2/{REPO}/blobs/{digest}"
        found += [
            Read(method, target, header)
            for method in ("HEAD", "GET")
            for header in (None, ("If-None-Match", f'"{digest}"'), ("Range", "bytes=2-5"), ("Range", "bytes=999999-"))
        ]
    found += [Read("HEAD", f"/v2/{OTHER}/blobs/{LAYER.digest}"), Read("GET", f"/v2/{OTHER}/tags/list")]
    return found


READS = reads()
FEW = [read for read in READS if read.header in (None, ("If-None-Match", f'"{FIRST.digest}"'), ("Range", "bytes=2-5"))]
"""Each target in each way that a change can show: what a condition does is the same before and after."""


class Pair:
    """Two processes on one storage and one database, one of them with a memory of reads."""

    def __init__(self, thin: Service, routes: Service) -> None:
        self.thin = thin
        self.routes = routes

    def compare(self, wanted: list[Read] = READS) -> dict[Read, Reply]:
        """Read everything from both; what the thin layer said."""
        found = {}
        for read in wanted:
            answers = [read.of(service) for service in self.both]
            thin, routes = (_comparable(answer) for answer in answers)
            assert thin == routes, read
            found[read] = answers[0]
        return found

    @property
    def both(self) -> tuple[Service, Service]:
        return self.thin, self.routes

    def age(self) -> None:
        """Let the time pass after which an index that other tools can write is looked at again."""
        for service in self.both:
            for notes in service.registry.backends.memory._notes.values():
                if notes.looked is not None:
                    notes.looked -= 60

    def warm(self, wanted: list[Read] = READS) -> None:
        """Have everything in memory that is ever kept there."""
        for read in wanted:
            read.of(self.thin)


def _answers(found: dict[Read, Reply]) -> dict[Read, tuple[int, dict[str, str], bytes]]:
    return {read: _comparable(reply) for read, reply in found.items()}


def _comparable(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    return reply.status, {k: v for k, v in reply.headers.items() if k not in OWN_HEADERS}, reply.body


Sections = dict[str, dict[str, object]]


@pytest.fixture(params=["sqlite", "postgresql"])
def sections(request: pytest.FixtureRequest) -> Sections:
    """Of the configuration of every process of a test."""
    return {"database": {"url": request.getfixturevalue("new_database")()}} if request.param == "postgresql" else {}


@pytest.fixture
def pair(tmp_path: Path, sections: Sections) -> Iterator[Pair]:
    with serving(tmp_path, sections) as thin, serving(tmp_path, sections | {"limits": {"read_memory": 0}}) as routes:
        for blob in BLOBS:
            thin.push_blob(REPO, blob)
        thin.push_blob(OTHER, LAYER)
        for tag, manifest in (("one", FIRST), ("two", SECOND), ("wide", WIDE), ("multi", BOTH)):
            target = f"/v2/{REPO}/manifests/{manifest.digest}?tag={tag}"
            assert thin.call("PUT", target, manifest.data, {"Content-Type": manifest.media_type}).status == 201
        thin.push(REPO, SIGNATURE.digest, SIGNATURE)
        thin.registry.fold_waiting()
        yield Pair(thin, routes)


@pytest.fixture
def elsewhere(tmp_path: Path, pair: Pair, sections: Sections) -> Iterator[Service]:
    """A third process on the same storage and database."""
    with serving(tmp_path, sections) as service:
        yield service


def test_what_is_kept_is_answered_without_the_routes_and_is_the_same(pair: Pair) -> None:
    pair.warm()
    passed: list[str] = []
    inner = pair.thin.observation._routes

    async def spy(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(f"{scope['method']} {scope['path']}?{scope['query_string'].decode()}")
        await inner(scope, receive, send)

    pair.thin.observation._routes = spy
    pair.compare()
    kept = (
        [f"{m} /v2/{REPO}/manifests/{r}?" for m in ("GET", "HEAD") for r in ("one", "multi", WIDE.digest)]
        + [f"{m} /v2/{REPO}/tags/list?n=100" for m in ("GET", "HEAD")]
        + [f"{m} /v2/{REPO}/referrers/{FIRST.digest}?" for m in ("GET", "HEAD")]
        + [f"HEAD /v2/{REPO}/blobs/{blob.digest}?" for blob in BLOBS]
    )
    assert [line for line in kept if line in passed] == []
    # A part of a blob, and a page that is not the last, are left to the routes.
    assert f"GET /v2/{REPO}/blobs/{LAYER.digest}?" in passed
    assert f"GET /v2/{REPO}/tags/list?n=2" in passed


def _done(service: Service, method: str, target: str, status: int, body: bytes = b"", kind: str = "") -> None:
    reply = service.call(method, target, body, {"Content-Type": kind} if kind else None)
    assert reply.status == status, reply


def _tag(name: str, manifest: Manifest) -> Callable[[Service], None]:
    return lambda service: _done(
        service, "PUT", f"/v2/{REPO}/manifests/{name}", 201, manifest.data, manifest.media_type
    )


def _delete(path: str) -> Callable[[Service], None]:
    return lambda service: _done(service, "DELETE", f"/v2/{REPO}/{path}", 202)


def _folded(service: Service) -> None:
    _tag("new", SECOND)(service)
    assert service.registry.fold_waiting() > 0


CHANGES: dict[str, Callable[[Service], None]] = {
    "a tag moved": _tag("one", SECOND),
    "a tag added": _tag("new", FIRST),
    "a tag deleted": _delete("manifests/two"),
    "a manifest deleted": _delete(f"manifests/{BOTH.digest}"),
    "a manifest pushed again": _tag("one", FIRST),
    "a referrer added": _tag(SBOM.digest, SBOM),
    "a referrer deleted": _delete(f"manifests/{SIGNATURE.digest}"),
    "a blob deleted": _delete(f"blobs/{LOOSE.digest}"),
    "a blob pushed to another repository": lambda service: service.push_blob(OTHER, LOOSE),
    "records folded": _folded,
}


@pytest.mark.parametrize("other_process", [False, True], ids=["this process", "another process"])
def test_a_change_shows_at_once_and_alike(pair: Pair, elsewhere: Service, other_process: bool) -> None:
    writer = elsewhere if other_process else pair.thin
    before = pair.compare(FEW)
    for name, change in CHANGES.items():
        pair.warm(FEW)
        change(writer)
        after = pair.compare(FEW)
        if name not in {"a manifest pushed again", "a blob pushed to another repository"}:
            assert _answers(before) != _answers(after), name
        before = after


def test_any_order_of_reads_and_changes_of_two_processes_is_answered_alike(pair: Pair, elsewhere: Service) -> None:
    chance = random.Random(20)
    targets = [f"/v2/{REPO}/manifests/{tag}" for tag in TAGS]
    for _ in range(50):
        writer = chance.choice((pair.thin, elsewhere))
        manifest = chance.choice((FIRST, SECOND, WIDE, SIGNATURE, SBOM))
        step = chance.randrange(5)
        if step == 0:
            _tag(chance.choice(TAGS), manifest)(writer)
        elif step == 1:
            writer.call("DELETE", chance.choice([*targets, f"/v2/{REPO}/manifests/{manifest.digest}"]))
        elif step == 2:
            writer.push_blob(REPO, LOOSE)
        elif step == 3:
            writer.call("DELETE", f"/v2/{REPO}/blobs/{LOOSE.digest}")
        else:
            writer.registry.fold_waiting()
        pair.compare(chance.sample(READS, 12))


def test_an_index_that_another_tool_changed_is_taken_after_the_time_between_two_looks(pair: Pair) -> None:
    pair.warm(FEW)
    before = pair.compare(FEW)
    path = pair.thin.root / REPO / "index.json"
    document = json.loads(path.read_bytes())
    (moved,) = [d for d in document["manifests"] if d.get("annotations", {}).get(REF_NAME) == "one"]
    moved |= {"digest": SECOND.digest, "size": len(SECOND.data)}
    new = path.with_name("index.json.new")
    new.write_text(json.dumps(document))
    new.replace(path)
    pair.age()
    after = pair.compare(FEW)
    read = Read("GET", f"/v2/{REPO}/manifests/one")
    assert (before[read].body, after[read].body) == (FIRST.data, SECOND.data)


def _path(service: Service, digest: str) -> Path:
    algorithm, encoded = digest.split(":")
    return service.root / REPO / "blobs" / algorithm / encoded


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()  # the inode has links in other repositories
    path.write_bytes(data[:-1])


LOSSES: dict[str, Callable[[Path], None]] = {"removed": lambda path: path.unlink(), "truncated": _truncate}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("digest", [LAYER.digest, LARGE.digest], ids=["small", "large"])
def test_a_blob_whose_file_is_lost_is_gone_for_head_and_get(pair: Pair, digest: str, loss: str) -> None:
    pair.warm()
    LOSSES[loss](_path(pair.thin, digest))
    found = pair.compare([read for read in READS if digest in read.target and REPO in read.target])
    assert {reply.status for reply in found.values()} == {404}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_manifest_whose_file_is_lost_is_gone_from_the_first_head_on(pair: Pair, loss: str) -> None:
    pair.warm()
    LOSSES[loss](_path(pair.thin, SECOND.digest))
    targets = [f"/v2/{REPO}/manifests/{reference}" for reference in ("two", SECOND.digest)]
    # HEAD looks (I6), and what it sees is then known by every name of the manifest; a GET before it needs no storage.
    wanted = [Read("HEAD", targets[0]), *(Read("GET", target) for target in targets)]
    assert {reply.status for reply in pair.compare(wanted).values()} == {404}


def test_a_manifest_that_was_pushed_again_after_its_loss_is_served_again(pair: Pair) -> None:
    pair.warm()
    _path(pair.thin, FIRST.digest).unlink()
    read = Read("HEAD", f"/v2/{REPO}/manifests/one")
    assert pair.compare([read])[read].status == 404
    pair.routes.push(REPO, "one", FIRST)
    found = pair.compare()
    assert found[read].status == 200
    assert found[Read("GET", read.target)].body == FIRST.data


@pytest.mark.parametrize("target", [f"blobs/{LOOSE.digest}", f"manifests/{FIRST.digest}", "manifests/one"])
def test_a_lease_of_which_less_than_half_is_left_is_renewed_by_head(pair: Pair, target: str) -> None:
    pair.warm()
    read = Read("HEAD", f"/v2/{REPO}/{target}")
    with pair.thin.registry.backends.database.transaction() as connection:
        connection.execute(Statement("UPDATE blob SET leased_until = 1, lease_until = 1"), {})
    memory = pair.thin.context.cache
    for answer in list(memory._answers.values()):
        if answer.leased_until is not None:
            object.__setattr__(answer, "leased_until", boot_seconds())
    assert pair.compare([read])[read].status == 200
    renewed = memory._answers[read.target, b""].leased_until
    assert renewed is not None
    assert renewed > boot_seconds() + pair.thin.registry.backends.policy.lease / 2, "renewed and remembered"


def test_queries_that_mean_nothing_are_not_what_memory_is_filled_with(pair: Pair) -> None:
    path = f"/v2/{REPO}/tags/list"
    for query in ("?x=short", f"?x={'long' * 200}"):
        assert Read("GET", path + query).of(pair.thin).status == 200
    kept = [query for asked, query in pair.thin.context.cache._answers if asked == path]
    assert kept == [b"x=short"]


@pytest.mark.parametrize("values", [(FIRST.digest, "x"), ("x", FIRST.digest)])
def test_a_condition_may_come_in_several_lines(pair: Pair, values: tuple[str, str]) -> None:
    """RFC 9110, section 5.3: they are one list."""
    headers = [("If-None-Match", f'"{value}"') for value in values]
    for service in pair.both:
        for _ in range(2):
            assert service.call("GET", f"/v2/{REPO}/manifests/one", headers=headers).status == 304
