"""Two replicas over one bucket and one PostgreSQL are one registry: any of them serves any request of any session."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from registry.background.schedule import LEASE_SECONDS
from registry.images.uploads.blob_writer import LOOK_SECONDS
from tests.clients.wire import Answer, Wire, until
from tests.replicas.conftest import Config
from tests.replicas.slow_body import SlowBody
from tests.support.payloads import Blob, image
from tests.support.postgresql import Cluster
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

MIB = 1 << 20
PART = 5 * MIB
REPO = "team/app"
CONFIG = Blob(b'{"architecture": "amd64"}')


class Pair:
    """Two replicas and the bucket that they share."""

    def __init__(self, store: S3Server, config: Config, directory: Path) -> None:
        self.config = config
        self.bucket = config["storage"]["s3"]["bucket"]
        self.processes = [RegistryProcess(directory / name, config) for name in ("one", "other")]
        self.one, self.other = (Wire(process.address) for process in self.processes)
        self.s3 = store.client()

    def start(self) -> None:
        for process in self.processes:
            if not process.running:
                process.start()

    def stop(self) -> None:
        for process in self.processes:
            if process.running:
                process.stop()
        self.s3.close()

    def keys(self, prefix: str) -> list[str]:
        """What the bucket has below the root."""
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"stowage/{prefix}")
        return [entry["Key"] for entry in found.get("Contents", ())]

    def multiparts(self) -> list[str]:
        """The keys of multipart uploads that have not ended."""
        return [entry["Key"] for entry in self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())]

    def parts(self, location: str) -> int:
        """How many parts the store has of an upload."""
        found = self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())
        ours = [each for each in found if location.rpartition("/")[2] in each["Key"]]
        listed = [self.s3.list_parts(Bucket=self.bucket, Key=each["Key"], UploadId=each["UploadId"]) for each in ours]
        return sum(len(answer.get("Parts", ())) for answer in listed)

    def index_tags(self, repository: str) -> dict[str, str]:
        """The tags in ``index.json``, as another tool reads them."""
        try:
            body = self.s3.get_object(Bucket=self.bucket, Key=f"stowage/{repository}/index.json")["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return {}
        name = "org.opencontainers.image.ref.name"
        entries = json.loads(body)["manifests"]
        return {
            entry["annotations"][name]: entry["digest"] for entry in entries if name in entry.get("annotations", {})
        }

    def read_by_both(self, repository: str, blob: Blob) -> None:
        for wire in (self.one, self.other):
            answer = wire.request("GET", f"/v2/{repository}/blobs/{blob.digest}")
            assert (answer.status, answer.body == blob.data) == (200, True)


def settings(store: S3Server, cluster: Cluster) -> Config:
    shared = store.storage(store.new_bucket())
    shared["s3"] |= {"part_size": PART}  # type: ignore[operator]
    return {"storage": shared, "database": {"url": cluster.create()}}


@pytest.fixture(scope="module")
def pair(store: S3Server, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(store, settings(store, cluster), tmp_path_factory.mktemp("pair"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def mortal(store: S3Server, cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[], Pair]]:
    """Makes pairs that a test may kill or start anew."""
    started: list[Pair] = []

    def start() -> Pair:
        started.append(Pair(store, settings(store, cluster), tmp_path / f"{len(started)}"))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def begin(wire: Wire, repository: str = REPO) -> str:
    return wire.request("POST", f"/v2/{repository}/blobs/uploads/").headers["location"]


def finish(wire: Wire, location: str, digest: str, rest: bytes = b"") -> None:
    done = wire.request("PUT", f"{location}?digest={digest}", rest)
    assert done.status == 201, done


def patch(wire: Wire, location: str, data: bytes, start: int) -> Answer:
    return wire.request("PATCH", location, data, {"Content-Range": f"{start}-{start + len(data) - 1}"})


def offset_of(wire: Wire, location: str) -> int:
    told = wire.request("GET", location)
    assert told.status == 204, told
    last = int(told.headers["range"].removeprefix("0-"))
    return last + 1 if last else 0


def push(wire: Wire, blob: Blob, repository: str = REPO) -> None:
    finish(wire, begin(wire, repository), blob.digest, blob.data)


def push_manifest(wire: Wire, tag: str, repository: str = REPO, **annotations: str) -> str:
    made = image(CONFIG, [], annotations=annotations)
    wire.push_manifest(repository, tag, made.data, made.media_type)
    return made.digest


# ---- uploads


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize(
    "chunks",
    [[100, 200], [200_000, 100_000], [600 << 10] * 4, [600 << 10] * 12, [PART + 1, 2 * PART], [7 * MIB, 10, 7 * MIB]],
    ids=["in-the-row", "out-of-the-row", "pieces", "pieces-that-fill-parts", "parts", "parts-and-tails"],
)
def test_any_replica_goes_on_with_an_upload_and_ends_it(pair: Pair, chunks: list[int], algorithm: str) -> None:
    """Of a session that was begun for sha256 the bytes are read back where another digest closes it."""
    blob = Blob(os.urandom(sum(chunks)), algorithm)
    location, start = begin(pair.one), 0
    for number, size in enumerate(chunks):
        wire = pair.one if number % 2 else pair.other
        assert offset_of(wire, location) == start
        assert patch(wire, location, blob.data[start : start + size], start).status == 202
        start += size
    finish(pair.one, location, blob.digest)
    pair.read_by_both(REPO, blob)
    assert pair.keys(".uploads/") == []
    assert pair.multiparts() == []


def test_a_wrong_digest_ends_an_upload_on_both(pair: Pair) -> None:
    location, data = begin(pair.one), os.urandom(PART + 1)
    assert patch(pair.other, location, data, 0).status == 202
    wrong = Blob(b"other bytes").digest
    assert pair.one.request("PUT", f"{location}?digest={wrong}").status == 400
    for wire in (pair.one, pair.other):
        assert wire.request("GET", location).status == 404
        assert wire.request("HEAD", f"/v2/{REPO}/blobs/{wrong}").status == 404
    upload = location.rpartition("/")[2]  # those of other tests end when they end
    assert pair.keys(f".uploads/{upload}") == []
    assert [key for key in pair.multiparts() if upload in key] == []


def test_of_two_that_write_to_an_upload_at_once_the_first_to_end_wins(pair: Pair) -> None:
    data, other = os.urandom(3 * PART), Blob(os.urandom(2 * PART))
    location = begin(pair.one)
    with SlowBody(pair.one.address, "PATCH", location, len(data)) as slow:
        slow.send(data[: 2 * PART])
        assert patch(pair.other, location, other.data, 0).status == 202
        slow.send(data[2 * PART :])
        late = slow.answer()
        assert (late.status, late.headers["range"]) == (416, f"0-{len(other.data) - 1}"), late
    assert patch(pair.one, location, data, 0).status == 416
    finish(pair.one, location, other.digest)
    pair.read_by_both(REPO, other)


def test_a_body_that_is_cut_is_sent_again_to_the_other(pair: Pair) -> None:
    """Where the digest is known from the beginning the parts are at the final key, and half of them are never seen."""
    blob = Blob(os.urandom(3 * PART))
    location, name = begin(pair.one), blob.digest.removeprefix("sha256:")
    with SlowBody(pair.one.address, "PUT", f"{location}?digest={blob.digest}", len(blob.data)) as slow:
        slow.send(blob.data[: 2 * PART + 10])
        until(lambda: any(name in key for key in pair.multiparts()), "a multipart upload at the final key")
    until(lambda: not any(name in key for key in pair.multiparts()), "the multipart upload of a cut body is aborted")
    assert pair.other.request("HEAD", f"/v2/{REPO}/blobs/{blob.digest}").status == 404
    offset = offset_of(pair.other, location)
    finish(pair.other, location, blob.digest, blob.data[offset:])
    pair.read_by_both(REPO, blob)


@pytest.mark.parametrize("held", [0, 2 * PART + 1000], ids=["of-nothing", "of-two-parts-and-a-tail"])
def test_what_a_killed_replica_was_receiving_is_continued_on_the_other_at_once(
    mortal: Callable[[], Pair], held: int
) -> None:
    pair = mortal()
    blob = Blob(os.urandom(5 * PART))
    location = begin(pair.one)
    if held:
        assert patch(pair.one, location, blob.data[:held], 0).status == 202
    with SlowBody(pair.one.address, "PATCH", location, len(blob.data) - held) as slow:
        slow.send(blob.data[held : held + 2 * PART + 7])
        until(lambda: pair.multiparts() != [], "parts are on their way")
        pair.processes[0].kill()
    assert offset_of(pair.other, location) == held
    assert patch(pair.other, location, blob.data[held:], held).status == 202
    finish(pair.other, location, blob.digest)
    pair.start()
    pair.read_by_both(REPO, blob)
    assert pair.keys(".uploads/") == []


@pytest.mark.parametrize("held", [0, PART], ids=["of-nothing", "of-a-part"])
def test_who_was_overtaken_is_told_so_and_harms_nothing(pair: Pair, held: int) -> None:
    """What he sends after that is not taken for parts of the other's."""
    blob, location = Blob(os.urandom(5 * PART)), begin(pair.one)
    if held:
        assert patch(pair.one, location, blob.data[:held], 0).status == 202
    with SlowBody(pair.one.address, "PATCH", location, len(blob.data) - held) as slow:
        slow.send(blob.data[held : held + PART + PART // 2])
        more = blob.data[held : held + 3 * PART]
        until(lambda: pair.parts(location) == (held + PART) // PART, "all parts are sent that are full")
        assert patch(pair.other, location, more, held).status == 202
        time.sleep(LOOK_SECONDS + 0.1)  # whether he has looked before that or not, he looks before he sends more
        with suppress(OSError):  # the answer may come before the end of the body
            slow.send(os.urandom(len(blob.data) - held - PART - PART // 2))
        answer = slow.answer()
        assert answer.status == 416, answer
    held += len(more)
    assert offset_of(pair.one, location) == held
    if rest := blob.data[held:]:
        assert patch(pair.one, location, rest, held).status == 202
    finish(pair.other, location, blob.digest)
    pair.read_by_both(REPO, blob)


def test_what_is_abandoned_is_freed_also_what_no_session_knows(mortal: Callable[[], Pair]) -> None:
    pair = mortal()
    staged, pieces = begin(pair.one), begin(pair.one)
    assert patch(pair.one, staged, os.urandom(PART + 600_000), 0).status == 202
    assert patch(pair.one, pieces, os.urandom(600_000), 0).status == 202
    blob = Blob(os.urandom(3 * PART))
    with SlowBody(pair.one.address, "PUT", f"{begin(pair.one)}?digest={blob.digest}", len(blob.data)) as slow:
        slow.send(blob.data[: 2 * PART])
        until(lambda: len(pair.multiparts()) == 2, "parts at a final key")
        pair.processes[0].kill()  # no other process knows of that multipart upload
    pair.s3.create_multipart_upload(Bucket=pair.bucket, Key="stowage/.uploads/00000000-of-a-lost-database/data")
    survivor = pair.processes[1]
    survivor.config["storage"]["upload_expiry"] = 2
    survivor.restart()
    until(
        lambda: pair.multiparts() == [], "multipart uploads are aborted", LEASE_SECONDS + 25
    )  # the killed may hold one
    until(lambda: pair.keys(".uploads/") == [], "objects of uploads are deleted")
    for location in (staged, pieces):
        assert pair.other.request("GET", location).status == 404


# ---- content


def test_what_one_replica_has_the_other_mounts_serves_and_deletes(pair: Pair) -> None:
    blob = Blob(b"mounted" * 1000)
    push(pair.one, blob, "mount/source")
    path = f"/v2/mount/target/blobs/{blob.digest}"
    assert pair.one.request("HEAD", path).status == 404
    mounted = pair.other.request("POST", f"/v2/mount/target/blobs/uploads/?mount={blob.digest}&from=mount/source")
    assert mounted.status == 201
    pair.read_by_both("mount/target", blob)
    assert pair.one.request("DELETE", path).status == 202
    for method in ("HEAD", "GET"):
        assert pair.other.request(method, path).status == 404
    pair.read_by_both("mount/source", blob)


def test_a_tag_that_one_replica_moved_or_removed_the_other_knows_at_once(pair: Pair) -> None:
    repository = "team/moving"
    push(pair.one, CONFIG, repository)
    path = f"/v2/{repository}/manifests/moving"
    for number in range(30):
        writer, reader = (pair.one, pair.other) if number % 2 else (pair.other, pair.one)
        digest = push_manifest(writer, "moving", repository, number=str(number))
        for method in ("HEAD", "GET"):
            assert reader.request(method, path).headers["docker-content-digest"] == digest
        assert reader.tags(repository) == ["moving"]
        if number % 5 == 0:
            assert writer.request("DELETE", path).status == 202
            assert reader.request("GET", path).status == 404
            assert reader.tags(repository) == []


def test_tags_pushed_through_both_at_once_are_all_in_the_index(pair: Pair) -> None:
    repository = "team/crowd"
    push(pair.one, CONFIG, repository)

    def write(number: int) -> dict[str, str]:
        wire = (pair.one, pair.other)[number % 2]
        tags = [f"client{number}-{count}" for count in range(6)]
        return {tag: push_manifest(wire, tag, repository, name=tag) for tag in tags}

    with ThreadPoolExecutor(6) as pool:
        wanted = {tag: digest for pushed in pool.map(write, range(6)) for tag, digest in pushed.items()}
    for wire in (pair.one, pair.other):
        assert set(wire.tags(repository)) == set(wanted)
    until(lambda: pair.index_tags(repository) == wanted, "every tag is in index.json")


def test_an_empty_database_is_filled_from_the_bucket_while_both_serve(
    mortal: Callable[[], Pair], cluster: Cluster
) -> None:
    pair = mortal()
    blobs = [CONFIG, Blob(b"small"), Blob(os.urandom(PART + 10))]
    made = image(CONFIG, blobs[1:])
    for number in range(3):
        for blob in blobs:
            push(pair.one, blob, f"kept/{number}")
        pair.other.push_manifest(f"kept/{number}", "v1", made.data, made.media_type)
    cluster.empty(pair.config["database"]["url"])
    for wire in (pair.one, pair.other):
        answer = wire.request("GET", "/v2/kept/0/manifests/v1")
        assert (answer.status, "retry-after" in answer.headers) == (503, True), answer
    assert pair.processes[0].run("rebuild")["repositories"] == 3
    for number in range(3):
        for wire in (pair.one, pair.other):
            assert wire.manifest(f"kept/{number}", "v1").body == made.data
        for blob in blobs:
            pair.read_by_both(f"kept/{number}", blob)
    push_manifest(pair.other, "v2", "kept/0", after="the loss")
    until(lambda: set(pair.index_tags("kept/0")) == {"v1", "v2"}, "both tags are in index.json")
