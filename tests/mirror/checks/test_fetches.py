"""Checks of one fetch with real registries and clients over HTTP: requests and bytes of the upstream are counted.

Waits are for conditions. How long things take is a matter of ``benchmarks/``; the bounds here are against hangs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.mirror.checks.conftest import Open
from tests.mirror.checks.mirroring import WAIT, Mirroring
from tests.upstream.hostile import Silence

SIZE = 12 << 20
"""Bytes: more than two parts of a bucket of the tests."""
DATA = random.Random(170).randbytes(SIZE)
OTHER = random.Random(171).randbytes(SIZE)
HALF = SIZE // 2
MIB = 1 << 20


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def is_here(mirroring: Mirroring, digest: str) -> bool:
    with mirroring.pull(digest, method="HEAD") as head:
        return head.headers.get("X-Artifact-Source") == "cache"


def test_a_client_has_bytes_before_the_upstream_has_sent_the_rest(opened: Open) -> None:
    """Check 2 of mirrors: the first half is with the client while the upstream holds back the second."""
    mirroring = opened()
    blob = mirroring.serve(DATA)
    blob.stops = {HALF}
    with mirroring.pull(blob.digest) as client, mirroring.pull(blob.digest, at=1) as elsewhere:
        assert client.headers["Content-Length"] == str(SIZE)
        assert client.read(HALF - MIB) == DATA[: HALF - MIB]
        assert elsewhere.read(1000) == DATA[:1000]
        assert blob.sent < SIZE
        blob.go_on.set()
        assert client.rest().digest == elsewhere.rest().digest == blob.digest
    assert (blob.starts, blob.sent, blob.heads) == ([0], SIZE, 0)


def test_fifty_clients_are_one_request(opened: Open) -> None:
    """Check 3 of mirrors: fifty clients, over all replicas and two workers of each, ask at once."""
    mirroring = opened(workers=2)
    blob = mirroring.serve(DATA)
    assert mirroring.pull_at_once(blob.digest, 50) == [(200, SIZE, SIZE, blob.digest)] * 50
    assert (blob.starts, blob.sent, blob.heads) == ([0], SIZE, 0)


def test_a_late_client_elsewhere_has_all_of_it(opened: Open) -> None:
    """Check 4 of mirrors: a client that comes when nine tenths are here has them from the first byte on."""
    mirroring = opened(workers=2)
    blob = mirroring.serve(DATA)
    blob.stops = {SIZE * 9 // 10}
    with mirroring.pull(blob.digest) as first:
        assert blob.stopped.wait(WAIT)
        with mirroring.pull(blob.digest, at=1) as late:
            assert late.read(1000) == DATA[:1000]
            blob.go_on.set()
            assert late.rest() == first.rest() == (200, SIZE, SIZE, blob.digest)
    assert (blob.starts, blob.sent, blob.heads) == ([0], SIZE, 0)


@pytest.mark.parametrize("ignores_ranges", [False, True], ids=["ranges", "no ranges"])
def test_an_upstream_that_breaks_off_again_and_again_gives_the_whole(opened: Open, ignores_ranges: bool) -> None:
    """Check 5 of mirrors: bodies end at multiples of some MiB; where ranges are ignored, bytes are skipped."""
    mirroring = opened()
    blob = mirroring.serve(DATA)
    blob.ignores_ranges = ignores_ranges
    blob.cuts = {4 * MIB, 8 * MIB}
    assert mirroring.pull_at_once(blob.digest, 4) == [(200, SIZE, SIZE, blob.digest)] * 4
    assert blob.starts == ([0, 0, 0] if ignores_ranges else [0, 4 * MIB, 8 * MIB])


def test_an_upstream_that_breaks_off_for_good_gives_no_short_answer(opened: Open) -> None:
    """Check 5 of mirrors: what has come without the rest never has the length of the whole."""
    mirroring = opened()
    blob = mirroring.serve(DATA)
    blob.cuts_always = {HALF}
    for got in mirroring.pull_at_once(blob.digest, 4):
        assert got.status != 200 or got.received < got.told == SIZE
    blob.cuts_always = set()
    assert not is_here(mirroring, blob.digest)


def test_content_that_changes_in_between_is_never_mixed(opened: Open) -> None:
    """Check 6 of mirrors: after another ETag the fetch begins anew; clients that have bytes are cut."""
    mirroring = opened()
    blob = mirroring.serve(DATA)
    blob.data, blob.etag = OTHER, '"two"'
    blob.cuts, blob.stops = {HALF + MIB}, {HALF}

    def change() -> None:
        blob.data, blob.etag = DATA, '"one"'

    blob.on_cut = change
    with mirroring.pull(blob.digest) as early:
        assert early.read(MIB) == OTHER[:MIB]
        assert blob.stopped.wait(WAIT)
        blob.stops = set()
        blob.go_on.set()
        got = early.rest()
        assert (got.status, got.told) == (200, SIZE)
        assert got.received < SIZE
    assert mirroring.pull_whole(blob.digest, at=1) == (200, SIZE, SIZE, blob.digest)
    assert blob.starts == [0, 0, 0], "the resumption is answered with something new, which is left"


def test_wrong_bytes_are_cut_and_are_absent_for_a_while(opened: Open) -> None:
    """Check 7 of mirrors: at least one byte is missing for each client; then it is 404 without a request."""
    mirroring = opened(workers=2)
    blob = mirroring.serve(DATA)
    blob.data = OTHER
    for got in mirroring.pull_at_once(blob.digest, 8):
        assert got.status in {200, 404}
        assert got.status == 404 or got.received < got.told == SIZE
    starts = list(blob.starts)
    assert starts == [0]
    for at in range(4):
        assert mirroring.status(blob.digest, at) == 404
        assert mirroring.status(blob.digest, at, "GET") == 404
    assert (blob.starts, blob.heads) == (starts, 0)


@pytest.mark.parametrize("config", ["local"], indirect=True)
def test_a_worker_that_is_killed_is_succeeded_by_another_one(opened: Open) -> None:
    """Check 8 of mirrors: clients of the other worker have the blob, for little more than its bytes."""
    mirroring = opened(workers=2)
    blob = mirroring.serve(DATA)
    blob.stops = {HALF}
    clients = [mirroring.pull(blob.digest) for _ in range(8)]
    assert blob.stopped.wait(WAIT)
    mirroring.registries[0].kill()
    for client in clients:
        client.close()
    blob.stops = set()
    mirroring.registries[0].start()
    assert mirroring.pull_whole(blob.digest) == (200, SIZE, SIZE, blob.digest)
    blob.go_on.set()
    assert len(blob.starts) == 2
    assert blob.starts[1] > 0, "what was kept is not asked for again"


def test_a_client_that_leaves_stops_no_fetch(opened: Open) -> None:
    """Check 9 of mirrors: the only client leaves at a quarter; the blob comes whole, for one request."""
    mirroring = opened()
    blob = mirroring.serve(DATA)
    blob.stops = {HALF}
    with mirroring.pull(blob.digest) as client:
        client.read(SIZE // 4)
        assert blob.stopped.wait(WAIT)
    blob.go_on.set()
    wait_until(lambda: is_here(mirroring, blob.digest))
    assert mirroring.pull_whole(blob.digest, at=1) == (200, SIZE, SIZE, blob.digest)
    assert (blob.starts, blob.sent) == ([0], SIZE)


def test_a_fetch_that_no_client_wants_ends_where_it_is_to(opened: Open) -> None:
    """Check 9 of mirrors: with ``fill_on_disconnect: false`` the connection to the upstream is closed."""
    mirroring = opened(fill_on_disconnect=False, read_timeout=300)
    blob = mirroring.serve(DATA)
    head = f'HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nETag: "one"\r\n\r\n'.encode()
    silence = mirroring.server.replies[blob.path] = Silence(head + DATA[:HALF])
    with mirroring.pull(blob.digest) as client:
        assert client.read(MIB) == DATA[:MIB]
        assert not silence.is_cut.wait(0.5), "a client waits"
    assert silence.is_cut.wait(WAIT)
    blob = mirroring.serve(DATA)
    assert mirroring.pull_whole(blob.digest, at=1) == (200, SIZE, SIZE, blob.digest)
    assert blob.starts[0] > HALF - MIB, "what came is kept"


def test_a_slow_client_holds_back_neither_a_fast_one_nor_the_upstream(opened: Open) -> None:
    """Check 11 of mirrors: a fast client ends, and the upstream has sent all, while a slow one has a little."""
    mirroring = opened()
    blob = mirroring.serve(random.Random(172).randbytes(4 * SIZE))
    with ThreadPoolExecutor(1) as pool, mirroring.pull(blob.digest) as slow:
        assert slow.read(1000) == blob.data[:1000]
        fast = pool.submit(mirroring.pull_whole, blob.digest).result(WAIT)
        assert fast == (200, 4 * SIZE, 4 * SIZE, blob.digest)
        assert (blob.starts, blob.sent) == ([0], 4 * SIZE)
        assert slow.rest() == fast


def test_a_process_ends_although_the_upstream_is_silent(opened: Open) -> None:
    """Check 8 of mirrors, of a process that is told to end: the other replica's clients go on where it was."""
    mirroring = opened(read_timeout=300)
    blob = mirroring.serve(DATA)
    head = f'HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nETag: "one"\r\n\r\n'.encode()
    silence = mirroring.server.replies[blob.path] = Silence(head + DATA[:HALF])
    with mirroring.pull(blob.digest) as client:
        assert client.read(MIB) == DATA[:MIB]
        elsewhere = mirroring.pull(blob.digest, at=1) if len(mirroring.registries) > 1 else None
        blob = mirroring.serve(DATA)
        mirroring.registries[0].stop()
        assert silence.is_cut.wait(WAIT)
        assert client.rest().received < SIZE
    if elsewhere is not None:
        with elsewhere:
            assert elsewhere.rest() == (200, SIZE, SIZE, blob.digest)
    else:
        mirroring.registries[0].start()
        assert mirroring.pull_whole(blob.digest) == (200, SIZE, SIZE, blob.digest)
    assert blob.starts[0] > HALF - MIB, "what came is kept"


def test_bytes_of_one_repository_are_shown_to_no_other_without_right(opened: Open) -> None:
    """Check 20 of mirrors: a blob on its way, or here, for one repository is 404 for one whose upstream has it not."""
    mirroring = opened()
    blob = mirroring.serve(DATA)
    blob.stops = {HALF}
    third = mirroring.serve(DATA, "library/third")
    with mirroring.pull(blob.digest) as client, ThreadPoolExecutor(1) as pool:
        assert blob.stopped.wait(WAIT)
        for at in range(2):
            with mirroring.pull(blob.digest, at, "library/other") as other:
                assert other.status == 404
        right = pool.submit(mirroring.pull_whole, blob.digest, 1, "library/third")
        wait_until(lambda: third.heads == 1)
        blob.go_on.set()
        assert client.rest() == right.result(WAIT) == (200, SIZE, SIZE, blob.digest)
    for at in range(2):
        with mirroring.pull(blob.digest, at, "library/other") as other:
            assert other.status == 404
    assert (blob.starts, third.starts) == ([0], [])
