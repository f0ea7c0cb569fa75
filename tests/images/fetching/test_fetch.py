"""What a client may have of a fetch, at each moment."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.database.mirrors.fetches import Kept
from registry.images.fetching.content import FetchFailed, Reason
from registry.images.fetching.fetch import Claimant, Fetch
from registry.images.fetching.ring import Ring
from registry.oci.digest import Digest

SIZE = 1000


def kept(offset: int, upload_id: str = "u1") -> Kept:
    return Kept(offset, upload_id, "", b"", SIZE, None, None)


def fetch_of(*, reads_kept: bool = True, ring: int = 100) -> Fetch:
    return Fetch("mirror", Digest.of(b"x"), ring_bytes=ring, reads_kept=reads_kept)


def client_of(fetch: Fetch, repository: str = "hub/app") -> Claimant:
    client = Claimant(repository)
    fetch.clients.add(client)
    fetch.prove(repository)
    return client


def test_a_ring_has_the_last_bytes_alone() -> None:
    ring = Ring(10, 8)
    for piece in (b"abc", b"def", b"ghi"):
        ring.append(piece)
    assert (ring.begin, ring.end) == (13, 19)
    assert not ring.has(12)
    assert not ring.has(19)
    assert ring.read(13, 100) == b"def"
    assert ring.read(14, 1) == b"e"
    assert ring.read(18, 100) == b"i"
    with pytest.raises(IndexError):
        ring.read(19, 1)
    ring.append(b"a long piece")
    assert (ring.begin, ring.end) == (19, 31)
    ring.shrink(0)
    assert ring.has(30)


def test_a_client_behind_the_ring_reads_what_is_kept_and_waits_for_what_is_neither() -> None:
    fetch = fetch_of()
    client = client_of(fetch)
    fetch.lead(edition=1, begin=0)
    fetch.tell(SIZE, None)
    assert not fetch.is_ready(client)
    for _ in range(5):
        fetch.append(bytes(50))
    assert fetch.limit(client) == 250
    assert not fetch.is_ready(client), "its bytes are in the writer alone"
    fetch.keep(kept(50))
    assert fetch.is_ready(client)
    client.position = 50
    assert not fetch.is_ready(client)
    client.position = 150
    assert fetch.is_ready(client)
    client.lost_upload, client.position = "u1", 0
    assert not fetch.is_ready(client), "the upload was found to be gone"


def test_the_last_byte_of_a_range_is_held_back_from_each_repository_until_it_has_the_blob() -> None:
    fetch = fetch_of()
    whole, ranged, other = client_of(fetch), client_of(fetch), client_of(fetch, "hub/other")
    ranged.want(10, 20)
    fetch.lead(edition=1, begin=0)
    fetch.append(bytes(100))
    assert fetch.limit(whole) == 99, "it may be the end, for all that is known"
    fetch.tell(100, None)
    assert (fetch.limit(whole), fetch.limit(ranged), fetch.limit(other)) == (99, 19, 99)
    fetch.publish(100)
    fetch.join("hub/app")
    assert (fetch.limit(whole), fetch.limit(ranged), fetch.limit(other)) == (100, 20, 99)
    assert fetch.missing() == {"hub/other"}


def test_a_client_with_bytes_of_another_edition_is_cut_also_when_the_blob_is_there() -> None:
    fetch = fetch_of()
    early, late, told = client_of(fetch), client_of(fetch), client_of(fetch)
    fetch.see(edition=1, size=SIZE, media_type=None, kept=kept(100))
    fetch.advance(early, 10, 1)
    told.size = SIZE
    fetch.see(edition=2, size=SIZE + 1, media_type=None, kept=kept(50, "u2"))
    fetch.check(late)
    for _ in range(2):
        for client in (early, told):
            with pytest.raises(FetchFailed) as failed:
                fetch.check(client)
            assert failed.value.reason is Reason.CUT
        fetch.publish(SIZE + 1)
        fetch.join("hub/app")


def test_a_leader_that_is_fenced_leaves_clients_what_was_kept() -> None:
    fetch = fetch_of()
    behind, ahead = client_of(fetch), client_of(fetch)
    fetch.lead(edition=1, begin=0)
    fetch.append(bytes(90))
    fetch.keep(kept(50))
    fetch.advance(behind, 50, 1)
    fetch.advance(ahead, 51, 1)
    fetch.lead_no_more()
    fetch.check(behind)
    with pytest.raises(FetchFailed):
        fetch.check(ahead)
    fetch.see(edition=1, size=SIZE, media_type=None, kept=kept(80))
    fetch.check(behind)
    assert fetch.is_ready(behind)


def test_a_failure_is_heard_by_all_but_those_whose_repository_has_the_blob() -> None:
    fetch = fetch_of()
    member, other = client_of(fetch), client_of(fetch, "hub/other")
    fetch.publish(SIZE)
    fetch.join("hub/app")
    fetch.fail(FetchFailed(Reason.STORAGE, "full"))
    fetch.check(member)
    with pytest.raises(FetchFailed, match="full"):
        fetch.check(other)


def test_a_callback_is_called_once_and_not_after_it_was_cancelled() -> None:
    fetch = fetch_of()
    client, heard = client_of(fetch), [0, 0]

    def hear(place: int) -> None:
        heard[place] += 1

    fetch.lead(edition=1, begin=0)
    assert fetch.watch(lambda: fetch.is_ready(client), lambda: hear(0)) is not None
    cancelled = fetch.watch(lambda: fetch.is_ready(client), lambda: hear(1))
    assert cancelled is not None
    cancelled.cancel()
    fetch.append(b"a")
    assert heard == [0, 0], "the last byte is held back"
    for _ in range(3):
        fetch.append(b"b")
    assert heard == [1, 0]
    assert fetch.watch(lambda: fetch.is_ready(client), lambda: hear(1)) is None


def test_no_callback_is_lost_where_bytes_come_at_the_same_moment() -> None:
    for _ in range(200):
        fetch = fetch_of()
        client, woken, gate = client_of(fetch), threading.Event(), threading.Barrier(2)
        fetch.lead(edition=1, begin=0)

        def come(fetch: Fetch = fetch, gate: threading.Barrier = gate) -> None:
            gate.wait(60)
            fetch.append(b"abc")

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(come)
            gate.wait(60)
            watch = fetch.watch(lambda fetch=fetch, client=client: fetch.is_ready(client), woken.set)  # type: ignore[misc]
            assert watch is None or woken.wait(60)
            coming.result(60)


def test_a_callback_that_fails_keeps_no_bytes_and_no_other_client_back() -> None:
    """The loop of a client may be closed: the leader gave the fetch up, and the others waited for ever."""
    fetch = fetch_of()
    heard: list[int] = []

    def fail() -> None:
        raise RuntimeError("Event loop is closed")

    def hear(number: int) -> None:
        heard.append(number)

    fetch.lead(edition=1, begin=0)
    for number in range(20):
        client = client_of(fetch)
        wake = fail if number % 2 else lambda number=number: hear(number)  # type: ignore[misc]
        assert fetch.watch(lambda client=client: fetch.is_ready(client), wake) is not None  # type: ignore[misc]
    fetch.append(b"abc")
    assert sorted(heard) == list(range(0, 20, 2))


def test_a_blob_without_a_byte_is_none_until_the_repository_has_it() -> None:
    """A client had the whole answer before the digest was looked at."""
    fetch = fetch_of()
    client = client_of(fetch)
    fetch.lead(edition=1, begin=0)
    fetch.tell(0, None)
    assert not fetch.has_head(client)
    assert not fetch.is_done(client)
    assert not fetch.is_ready(client)
    fetch.publish(0)
    fetch.join(client.repository)
    assert fetch.has_head(client)
    assert fetch.is_done(client)


def test_a_ring_of_many_small_pieces_takes_up_their_bytes() -> None:
    ring, size = Ring(0, 100_000), 200_000
    data = bytes(range(256)) * (size // 256 + 1)
    tracemalloc.start()
    try:
        for at in range(size):
            ring.append(data[at : at + 1])
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 400_000
    assert size - ring.begin > 30_000
    position, read = ring.begin, b""
    while position + len(read) < size:
        piece = ring.read(position + len(read), 1000)
        assert isinstance(piece, bytes)
        read += piece
    assert read == data[position:size]


@pytest.mark.parametrize("begin", [0, SIZE + 5])
def test_a_range_that_reaches_beyond_the_blob_ends_with_it(begin: int) -> None:
    """A client waited for ever for what there is not."""
    fetch = fetch_of(ring=2 * SIZE)
    client = client_of(fetch)
    client.want(begin, 2 * SIZE)
    fetch.lead(edition=1, begin=0)
    fetch.append(b"x" * SIZE)
    assert not fetch.is_done(client)
    fetch.tell(SIZE, None)
    assert fetch.limit(client) == SIZE - 1
    fetch.publish(SIZE)
    fetch.join(client.repository)
    assert fetch.limit(client) == SIZE
    if not begin:
        fetch.advance(client, SIZE, 1)
    assert fetch.is_done(client)
    assert fetch.is_ready(client)
