"""The load generators: what they send, what they count, and that failures are not counted."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.content import image, push_image, push_large, sha256, source
from benchmarks.head_rate import rate
from benchmarks.load import LoadError, together, until
from benchmarks.machine import Others
from benchmarks.processes import MEBIBYTE, Peak, processor_seconds, resident, tree
from benchmarks.servers import CEILING, SERVERS, Running, Server, ServerError
from benchmarks.wire import Connection, WireError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 3 * MEBIBYTE + 5


@pytest.fixture
def nothing(tmp_path: Path) -> Iterator[Running]:
    with Running(SERVERS[CEILING], tmp_path) as running:
        yield running


def test_large_blobs_differ_and_their_digests_are_those_of_the_bytes_sent() -> None:
    with source(SIZE) as content:
        blobs = [content.blob(number) for number in range(3)]
        for blob in blobs:
            rest = os.pread(content.descriptor, SIZE, len(blob.mark))
            assert len(blob.mark + rest) == blob.size == SIZE
            assert f"sha256:{hashlib.sha256(blob.mark + rest).hexdigest()}" == blob.digest
        assert len({blob.digest for blob in blobs}) == 3


def test_each_image_has_blobs_of_its_own_that_its_manifest_names() -> None:
    first, second = image("1"), image("2")
    assert not {digest for digest, _ in first.blobs} & {digest for digest, _ in second.blobs}
    for digest, data in first.blobs:
        assert digest == sha256(data)
        assert digest.encode() in first.manifest


def test_a_large_blob_and_an_image_are_pushed_and_as_many_bytes_come_back(nothing: Running) -> None:
    with source(SIZE) as content, Connection(nothing.port) as connection:
        push_large(connection, "bench/one", content.blob(0), content.descriptor)
        push_image(connection, "bench/one", "latest", image("1"))
        pieces: list[int] = []
        assert (
            connection.drain("/v2/bench/one/blobs/any", bytearray(65536), lambda piece: pieces.append(len(piece)))
            == SIZE
        )
        assert sum(pieces) == SIZE


def test_an_answer_of_another_status_is_an_error(nothing: Running) -> None:
    with Connection(nothing.port) as connection, pytest.raises(WireError, match="expected 404, got 200"):
        connection.request("GET", "/v2/").expect(404)


def test_heads_that_are_not_answered_200_are_not_counted(nothing: Running) -> None:
    with pytest.raises(WireError, match="HEAD answered"):
        rate("/anything", nothing.port, 0.2, 2)


def test_clients_start_together_and_their_counts_are_summed() -> None:
    def work(seconds: float) -> int:
        time.sleep(seconds)
        return 7

    span = together([functools.partial(work, 0.1), functools.partial(work, 0.3)])
    assert span.count == 14
    assert 0 < span.pace < 7 / 0.1 + 7 / 0.3
    assert 0.3 <= span.seconds < 60


def test_a_client_that_fails_fails_the_measurement() -> None:
    def work() -> int:
        raise WireError("no answer")

    with pytest.raises(LoadError, match="WireError: no answer"):
        together([work, lambda: 1])


def test_a_client_that_dies_fails_the_measurement() -> None:
    with pytest.raises(LoadError, match="died"):
        together([lambda: os._exit(3)])


def test_what_ends_after_the_time_is_not_counted() -> None:
    assert until(0.05, lambda _: time.sleep(0.1)) == 0


def test_memory_and_processor_time_are_those_of_the_whole_tree() -> None:
    inner = "import time; data = bytearray(64 << 20); sum(range(10**6)); print('up', flush=True); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert len(tree(process.pid)) == 2
            assert resident(process.pid) > 64 * MEBIBYTE
            peak = Peak(process.pid)
            peak.sample()
            assert peak.bytes > 64 * MEBIBYTE
            assert processor_seconds(process.pid) > 0
            assert 0 <= Others([process.pid]).share() <= 1
        finally:
            for each in reversed(tree(process.pid)):
                os.kill(each, 9)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    server = Server("broken", SERVERS[CEILING].program, ("-c", "raise SystemExit('no such option')"), "config", "")
    with pytest.raises(ServerError, match="no such option"), Running(server, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ends_leaves_nothing(tmp_path: Path) -> None:
    with Running(SERVERS[CEILING], tmp_path) as running:
        pid = running.pid
    assert tree(pid) == [pid]
    assert resident(pid) == 0
    assert list(tmp_path.iterdir()) == []
